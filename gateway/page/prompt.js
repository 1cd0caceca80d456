/** The words, and the English prompt that the engine makes of them. */

import { call } from "./api.js"
import { app, draw, isPartial } from "./session.js"
import { keep } from "./store.js"

const REST_MS = 250
let pending
let asked = ""
let asking = new AbortController()

export function write(change) {
	Object.assign(app.form, change)
	keep("form", app.form)
	compile()
	draw()
}

/** Compiles the words once they rest; the newest words win. */
export function compile() {
	const { text, edits, subject } = app.form
	const whole = app.categories.filter(({ id, fields }) => edits[id] && fields.every((field) => !field.required || edits[id][field.id]))
	const list = whole.map(({ id }) => ({ category: id, fields: edits[id] }))
	const edit = { edits: list, text, subject: subject || null, masked: isPartial() }
	if (asked === JSON.stringify(edit)) return
	asked = JSON.stringify(edit)
	asking.abort()
	asking = new AbortController()
	if (text.trim() || list.length) pending = ask(edit, asking.signal)
	else app.compiled = null
}

async function ask(edit, signal) {
	await new Promise((resolve) => setTimeout(resolve, REST_MS))
	if (signal.aborted) return
	try {
		app.compiled = await call("api/prompt/compile", edit, signal)
	} catch (problem) {
		if (signal.aborted) return
		// Without the engine the words go as they were typed.
		app.compiled = { prompt: edit.text, keeps: [], warnings: [] }
		app.problem = problem
		asked = ""
	}
	draw()
}

/** The prompt as it is to be sent, once the last words are compiled. */
export async function finalPrompt() {
	await pending
	return app.form.prompt ?? app.compiled.prompt
}
