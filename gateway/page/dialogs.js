/** The two questions: for a key, and for more credits. */

import { call } from "./api.js";
import { $, chip, h } from "./dom.js";
import { app } from "./session.js";
import { explain, t } from "./words.js";

const dialog = $("dialog");
let asking = null;

function open(name, ...content) {
	$("asked").textContent = t(name);
	$("why").textContent = t(`${name}.why`);
	$("asks").replaceChildren(...content);
	$("refusal").textContent = "";
	dialog.showModal();
}

/** Closes once `act` has worked, else says why not. */
const attempt = (act) => async () => {
	try {
		await act();
		dialog.close("done");
	} catch (problem) {
		$("refusal").textContent = explain(problem);
	}
};

/** Resolves to true once the gateway has taken a key, to false when the person gave up. */
export function askForKey() {
	asking ??= new Promise((resolve) => {
		const input = h("input", { type: "password", autocomplete: "current-password" });
		const enter = h("button", { type: "button", className: "primary", onclick: attempt(() => call("services/qwen-image-edit/key", { key: input.value })) }, t("key.send"));
		input.onkeydown = (event) => event.key === "Enter" && (event.preventDefault(), enter.click());
		dialog.returnValue = "";
		open("key", h("label", {}, t("key"), input), enter);
		dialog.onclose = () => resolve(dialog.returnValue === "done");
	}).finally(() => (asking = null));
	return asking;
}

export function openShop(bought) {
	const packs = app.credits.packages.map(({ id, credits }) => chip(`+ ${credits}`, null, attempt(() => call("api/credits/buy", { package: id }))));
	dialog.onclose = bought;
	open("shop", ...packs);
}
