/** A job from Generate to its end, across lost answers, reloads and changes of mind. */

import { call } from "./api.js"
import { follow } from "./follow.js"
import { refresh } from "./photos.js"
import { finalPrompt } from "./prompt.js"
import { app, draw, isPartial, send } from "./session.js"
import { keep } from "./store.js"
import { showHistory } from "./view.js"

const AGAIN_MS = 3000

export async function generate() {
	if (!send("submit", { status: null })) return
	const { photo, extras, form, raster } = app
	const job = (app.job = { before: photo.preview_url, name: photo.name })
	try {
		await Promise.all([photo, ...extras].map(refresh))
	} catch (problem) {
		return send("reject", { problem })
	}
	const images = [photo, ...extras].map(({ upload_id: id }, i) => ({ name: `${i + 1}.png`, image: `upload:${id}` }))
	const body = { request_id: randomId(), images, speed: form.speed }
	if (form.lock && form.seed) body.seed = Number(form.seed)
	body.prompt = await finalPrompt()
	if (isPartial()) body.mask = raster.canvas.toDataURL()
	else if (form.ratio) body.ratio = form.ratio
	else body.output = { size: "photo" }
	if (body.mask && app.compiled?.whole) body.fit = "whole"
	job.body = body
	await keep("job", job)
	post()
}

/** Asks for the job until there is an answer: its request id keeps it one job. */
async function post() {
	const { job } = app
	try {
		job.id = (await call("api/queue/create", job.body)).job_id
		keep("job", job)
		send("create")
		if (job.cancelled) cancel()
		follow(job.id, onStatus, () => send("lose"))
	} catch (problem) {
		if (problem.code !== "network") return settle("reject", { problem: job.cancelled ? null : problem })
		send("lose")
		setTimeout(post, AGAIN_MS)
	}
}

function onStatus(status) {
	if (status.status === "queued") send("wait", { status })
	else if (status.status === "running") send("run", { status })
	else if (status.status === "cancelled") settle("stop", { said: "cancelled" })
	else if (status.status === "failed") settle("fail", { problem: status.error })
	else {
		const { before, name } = app.job
		const result = { ...status, before, name }
		useHistory([result, ...app.history].slice(0, 12))
		app.form.seed = `${status.seed ?? ""}`
		settle("succeed", { result })
		document.getElementById("stage").scrollIntoView()
	}
}

export function useHistory(history) {
	app.history = history
	keep("history", history)
	showHistory(history, (result) => send("show", { result }))
}

function settle(event, changes) {
	keep("job", null)
	send(event, changes)
	money()
}

export async function cancel() {
	if (app.state !== "cancelling" && !send("cancel")) return
	const { job } = app
	job.cancelled = true
	if (job.body) await keep("job", job)
	// Without an id the job may still be on its way: it is cancelled once it has one.
	if (!job.id) return
	call(`api/queue/cancel/${job.id}`, {}).catch(({ retryable }) => {
		if (retryable) setTimeout(() => app.state === "cancelling" && cancel(), AGAIN_MS)
	})
}

/** Finds a kept job again. */
export function rejoin(job) {
	app.job = job
	send("rejoin")
	if (job.cancelled) cancel()
	if (job.id) follow(job.id, onStatus, () => send("lose"))
	else post()
}

export async function money() {
	if (app.service.credits) app.credits = await call("api/credits").catch(() => app.credits)
	draw()
}

/** crypto.randomUUID is missing on plain http. */
const randomId = () => crypto.getRandomValues(new Uint32Array(4)).join("-")
