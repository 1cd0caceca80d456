/** Shows on the screen what the page knows. */

import { $, chip, each, h } from "./dom.js";
import { explain, language, maybe, say, t } from "./words.js";

/** What still lacks before an edit can be made. */
export function missing({ photo, raster, form, compiled }) {
	const words = form.prompt ?? compiled?.prompt;
	return [!photo && "photo", !raster?.area && "mask", !words?.trim() && "words"].filter(Boolean);
}

export function render(app, stage) {
	const { state, photo, mask, raster, credits, service, form } = app;
	document.body.dataset.state = state;
	each("[data-see]", (element) => (element.hidden = !app.sees(element.dataset.see)));
	each("button[lang]", (button) => (button.ariaPressed = button.lang === language));
	each("[data-tool]", (button) => (button.ariaPressed = button.dataset.tool === stage.hand.tool));
	$("mask-undo").disabled = !mask.done;
	$("redo").disabled = mask.done === mask.ops.length;
	$("clear").disabled = !raster?.area;
	$("zoom").hidden = !photo;
	$("demo").hidden = !service.demo;
	$("credits").hidden = !credits;
	$("credits").textContent = t("balance", { n: credits?.balance });
	$("generate").disabled = state === "checking" || missing(app).length > 0;
	$("generate").textContent = t("generate") + (credits ? ` · ${t("cost", { n: credits.cost[form.speed] })}` : "");
	showPictures(app, stage);
	showStatus(app);
	showPrompt(app);
}

function showPictures(app, stage) {
	const { photo, result } = app;
	const seen = app.sees("result") ? result : photo;
	stage.masked = seen && seen === photo;
	$("plate").hidden = !seen;
	if (!seen) return;
	stage.setPhoto(seen.width, seen.height);
	show($("photo"), seen.before ?? seen.preview_url);
	if (!result) return;
	show($("result"), result.result_url);
	const split = stage.peek ? 100 : $("compare").value;
	$("result").style.clipPath = `inset(0 0 0 ${split}%)`;
	$("split").style.left = `${stage.view.x + (stage.view.scale * stage.width * split) / 100}px`;
	const exact = result.pixels_changed_outside === 0 ? `${t("exact")} · ` : "";
	$("proof").textContent = `${exact}${result.width} × ${result.height} · ${t("seed")} ${result.seed}`;
	$("result").alt = `${t("after")}: ${result.prompt}`;
	for (const [kind, more] of [["png", ""], ["jpg", "&format=jpeg"]]) {
		const name = `${result.name.replace(/\.\w+$/, "")}-edited.${kind}`;
		const join = result.result_url.includes("?") ? "&" : "?";
		$(`download-${kind}`).href = `${result.result_url}${join}download=${encodeURIComponent(name)}${more}`;
	}
}

function show(image, url) {
	if (image.getAttribute("src") !== url) image.src = url;
}

function showStatus(app) {
	const { state, status, problem, said, credits } = app;
	const lacking = missing(app).map((name) => t(`missing.${name}`));
	const { phase, waiting_for: reason, queue_position: place, eta_s: left, percent } = (app.sees("busy") && status) || {};
	let first = t(state);
	if (state === "queued" && place) first = t("place", { n: place });
	else if (app.sees("generate") && state !== "checking" && lacking.length) first = t("missing", { list: lacking.join(" · ") });
	const eta = left > 0 && t("eta", { n: Math.round(left) });
	const lines = [said && t(said), first, maybe(`phase.${phase}`), maybe(`wait.${reason}`), eta];
	const text = lines.filter(Boolean).join(" · ");
	if ($("status").textContent !== text) $("status").textContent = text;
	if (percent > 0) $("progress").value = percent;
	else $("progress").removeAttribute("value");
	document.title = app.sees("busy") ? `${percent ? `${Math.round(percent)} %` : "…"} ${t("title")}` : t("title");
	$("problem").textContent = problem ? `${explain(problem)} ${credits ? t("free") : ""}` : "";
}

function showPrompt({ form, compiled, raster, attributes }) {
	const { keeps = [], warnings = [], prompt = "" } = compiled ?? {};
	const field = $("compiled-prompt");
	if (field !== document.activeElement) field.value = form.prompt ?? prompt;
	$("rebuild").hidden = form.prompt === null;
	const list = keeps.map((name) => (attributes[name] ? say(attributes[name]) : name)).join(" · ");
	$("keeps").textContent = list && form.prompt === null ? t("keeps", { list }) : "";
	$("warnings").replaceChildren(...warnings.map(({ message }) => h("li", {}, say(message))));
	$("framed").textContent = form.ratio && raster?.area && !raster.whole ? t("framed") : "";
}

const picture = (src) => h("img", { src, alt: "" });

/** The other pictures: chips that mention them in the words. */
export function showExtras(extras, mention, drop) {
	const chips = extras.flatMap((extra, i) => {
		const close = chip("×", null, () => drop(extra));
		close.ariaLabel = t("remove", { n: i + 2 });
		const insert = chip(t("picture", { n: i + 2 }), null, () => mention(`Picture ${i + 2}`));
		insert.prepend(picture(extra.preview_url));
		return [insert, close];
	});
	$("pictures").replaceChildren(...chips);
}

export function showHistory(history, choose) {
	const chips = history.map((result) => {
		const button = chip(picture(result.result_url), null, () => choose(result));
		button.ariaLabel = result.prompt;
		return button;
	});
	$("history").replaceChildren(...chips);
}
