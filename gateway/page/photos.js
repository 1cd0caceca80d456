/** Photos on their way to the server, and back as it sees them. */

import { call } from "./api.js"
import { $ } from "./dom.js"
import { write } from "./prompt.js"
import { app, draw, send, useMask } from "./session.js"
import { keep } from "./store.js"
import { showExtras } from "./view.js"

// The server keeps an upload for an hour.
const KEPT_MS = 3_300_000
let uploading = new AbortController()

export async function take(file) {
	if (!file || !send("photo")) return
	uploading.abort()
	const { signal } = (uploading = new AbortController())
	try {
		app.photo = await deposit(file, signal)
		keep("photo", app.photo)
		useExtras([])
		useMask([])
		send("accept")
	} catch (problem) {
		if (!signal.aborted) send(app.photo ? "keep" : "refuse", { problem })
	}
}

/** Uploads, and has the server's upright preview at hand before anything shows it. */
export async function deposit(file, signal) {
	const name = file.name || "photo.png"
	const form = new FormData()
	form.append("image", file, name)
	const sent = await call("api/uploads", form, signal)
	const preview = new Image()
	preview.src = sent.preview_url
	await preview.decode().catch(() => {})
	return { file, name, at: Date.now(), ...sent }
}

/** Uploads once more what the server may have let go of. */
export async function refresh(picture) {
	if (Date.now() - picture.at > KEPT_MS) Object.assign(picture, await deposit(picture.file))
}

/** The second and the third picture, which the words may speak of. */
export function useExtras(extras) {
	app.extras = extras
	keep("extras", extras)
	showExtras(extras, mention, (dropped) => useExtras(extras.filter((one) => one !== dropped)))
	$("extra").disabled = extras.length > 1
	draw()
}

function mention(name) {
	$("prompt").setRangeText(name)
	write({ text: $("prompt").value })
}

export async function addPicture(file) {
	try {
		app.problem = null
		useExtras([...app.extras, await deposit(file)])
	} catch (problem) {
		app.problem = problem
		draw()
	}
}

export async function takeResult() {
	const { result_url: url, name } = app.result
	const answer = await fetch(url)
	take(new File([await answer.blob()], name))
}
