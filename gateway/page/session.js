/** What is at hand, and the one way to change the state. */

import { $ } from "./dom.js"
import { Hand } from "./hand.js"
import { machine } from "./machine.js"
import { rasterise } from "./mask.js"
import { Stage } from "./stage.js"
import { keep } from "./store.js"
import { render } from "./view.js"

const table = machine(await (await fetch(new URL("machine.json", import.meta.url))).json())

export const app = {
	state: "starting",
	sees: (part) => table.sees(app.state, part),
	// Of the mask's operations `done` are done, the rest undone.
	photo: null, extras: [], mask: { ops: [], done: 0 }, raster: null,
	categories: [], attributes: {}, service: {}, credits: null,
	form: { text: "", subject: "", ratio: "", speed: "fast", seed: "", lock: false, edits: {}, prompt: null },
	compiled: null, job: null, status: null, result: null, history: [], problem: null, said: "",
}
export const stage = new Stage($("stage"), $("plate"), $("mask"), $("cursor"))
export const hand = (stage.hand = new Hand(stage, (op) => add(op)))

export const draw = () => render(app, stage)

/** One event into the machine; false where it means nothing now. */
export function send(event, changes) {
	const next = table.next(app.state, event)
	if (!next) console.debug("ignored:", event, "in", app.state)
	else Object.assign(app, { state: next, problem: null, said: "" }, changes)
	draw()
	return Boolean(next)
}

export function useMask(ops = app.mask.ops, done = ops.length) {
	if (done < 0 || done > ops.length) return
	app.mask = { ops, done }
	stage.ops = ops.slice(0, done)
	app.raster = rasterise(stage.ops, app.photo.width, app.photo.height)
	stage.paint()
	keep("mask", app.mask)
	app.masked()
	draw()
}

export const add = (op) => useMask([...stage.ops, op])

/** Undoes (-1) or does again (1). */
export const step = (by) => useMask(app.mask.ops, app.mask.done + by)

/** Whether the mask leaves something as it is. */
export const isPartial = () => Boolean(app.raster?.area) && !app.raster.whole
