/** The two questions: for a key, and for more credits. */

import { call } from "./api.js"
import { $, chip, h } from "./dom.js"
import { app } from "./session.js"
import { explain, t } from "./words.js"

const dialog = $("dialog")
let asking = null

function open(name, content, onclose) {
	$("asked").textContent = t(name)
	$("why").textContent = t(`${name}.why`)
	$("asks").replaceChildren(...content)
	$("refusal").textContent = dialog.returnValue = ""
	dialog.onclose = onclose
	dialog.showModal()
}

/** Closes the dialog once the gateway has taken what was sent, else says why not. */
async function attempt(path, body) {
	try {
		await call(path, body)
		dialog.close("done")
	} catch (problem) {
		$("refusal").textContent = explain(problem)
	}
}

/** Resolves to true once the gateway has taken a key, to false when the person gave up. */
export function askForKey() {
	asking ??= new Promise((resolve) => {
		const input = h("input", { type: "password", autocomplete: "current-password" })
		const send = (event) => {
			event.preventDefault()
			attempt("services/qwen-image-edit/key", { key: input.value })
		}
		const button = h("button", { className: "primary", onclick: send }, t("key.send"))
		open("key", [h("label", {}, t("key"), input), button], () => resolve(dialog.returnValue === "done"))
	}).finally(() => (asking = null))
	return asking
}

export function openShop(bought) {
	const buy = (id) => () => attempt("api/credits/buy", { package: id })
	open("shop", app.credits.packages.map(({ id, credits }) => chip(`+ ${credits}`, null, buy(id))), bought)
}
