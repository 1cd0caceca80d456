/** Joins the parts. */

import { call, hooks } from "./api.js"
import { askForKey, openShop } from "./dialogs.js"
import { $, each, set } from "./dom.js"
import { listen } from "./gestures.js"
import { cancel, generate, money, rejoin, useHistory } from "./jobs.js"
import { showOptions } from "./options.js"
import { addPicture, refresh, take, takeResult, useExtras } from "./photos.js"
import { compile, write } from "./prompt.js"
import { add, app, draw, hand, send, stage, step, useMask } from "./session.js"
import { keep, openSession, recall } from "./store.js"
import { preferredLanguage, speak } from "./words.js"

const form = $("form")
const mode = () => (app.sees("paint") ? "paint" : app.sees("result") ? "compare" : "")

function choose(tool) {
	hand.choose(tool)
	draw()
}

function resize(size) {
	hand.size = $("size").value = Math.max(4, Math.min(240, size))
	stage.show()
}

const peek = (pressed) => () => draw((stage.peek = pressed))

function compare(event) {
	$("compare").value = (stage.toPhoto(event)[0] / stage.width) * 100
	draw()
}

function reset() {
	if (!send("reset", { photo: null, extras: [], raster: null })) return
	keep("photo", null)
	write({ text: "", edits: {}, prompt: null })
	showForm()
}

function another() {
	write({ lock: false })
	generate()
}

function useLanguage(name) {
	speak(name)
	showForm()
}

const presses = {
	"mask-undo": () => step(-1),
	redo: () => step(1),
	clear: () => add({ t: "none" }),
	invert: () => add({ t: "invert" }),
	"mask-whole": () => add({ t: "all" }),
	"zoom-in": () => stage.zoom(1.4),
	"zoom-out": () => stage.zoom(1 / 1.4),
	"zoom-fit": () => stage.fit(),
	rebuild: () => write({ prompt: null }),
	cancel,
	reset,
	onward: takeResult,
	change: () => send("change"),
	another,
	credits: () => openShop(money),
	"lang-th": () => useLanguage("th"),
	"lang-en": () => useLanguage("en"),
}

function wire() {
	for (const [name, onclick] of Object.entries(presses)) set($(name), { onclick })
	each("[data-tool]", (button) => (button.onclick = () => choose(button.dataset.tool)))
	each("[type=file]", (input) => {
		const use = input.id === "extra" ? addPicture : take
		const onchange = () => {
			if (app.state === "starting") return
			use(input.files[0])
			input.value = ""
		}
		set(input, { accept: "image/jpeg,image/png,image/webp,image/heic", onchange })
	})
	listen(stage, hand, { mode, compare, choose, resize: (factor) => resize(hand.size * factor) })
	stage.moved = draw
	app.masked = compile
	set($("size"), { oninput: ({ target }) => resize(Number(target.value)) })
	set($("compare"), { oninput: () => draw() })
	set($("peek"), { onpointerdown: peek(true), onpointerup: peek(false), onpointerleave: peek(false) })
	set($("compiled-prompt"), { oninput: ({ target }) => write({ prompt: target.value }) })
	set(form, {
		oninput({ target: { name, type, checked, value } }) {
			if (name) write({ [name]: type === "checkbox" ? checked : value })
		},
		onsubmit(event) {
			event.preventDefault()
			generate()
		},
	})
	set(window, {
		ondragover: (event) => event.preventDefault(),
		ondrop(event) {
			event.preventDefault()
			take(event.dataTransfer.files[0])
		},
		onpaste: ({ clipboardData }) => take(clipboardData.files[0]),
		onkeydown(event) {
			const key = event.key.toLowerCase()
			if (!(event.ctrlKey || event.metaKey) || !/^[zy]$/.test(key)) return
			if (mode() !== "paint" || event.target.matches("input:not([type]), textarea")) return
			event.preventDefault()
			step(key === "y" || event.shiftKey ? 1 : -1)
		},
	})
}

function showForm() {
	for (const element of form.elements) {
		if (element.name) element.value = app.form[element.name]
	}
	showOptions(app.categories, app.form.edits, () => write({}))
	draw()
}

async function restore() {
	useHistory((await recall("history")) ?? [])
	useExtras((await recall("extras")) ?? [])
	const photo = (app.photo = await recall("photo"))
	const { ops, done } = (await recall("mask")) ?? app.mask
	if (photo) {
		await refresh(photo).catch(() => {})
		useMask(ops, done)
	}
	const job = photo && (await recall("job"))
	if (job) rejoin(job)
	else send(photo ? "restore" : "begin")
}

hooks.askForKey = askForKey
speak(preferredLanguage())
await openSession()
Object.assign(app.form, await recall("form"))
wire()
showForm()
$("main").hidden = false
await restore().catch((problem) => send("begin", { problem, photo: null }))
// What was given before this script could hear of it.
$("photo-input").onchange()
await call("api/options").then((answer) => Object.assign(app, answer), (problem) => (app.problem = problem))
showForm()
compile()
money()
