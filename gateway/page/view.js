/** Shows on the screen what the page knows. */

import { $, chip, each, h, set } from "./dom.js"
import { explain, language, maybe, say, t } from "./words.js"

/** What still lacks before an edit can be made. */
function missing({ photo, raster, form, compiled }) {
	const words = form.prompt ?? compiled?.prompt
	return [!photo && "photo", !raster?.area && "mask", !words?.trim() && "words"].filter(Boolean)
}

export function render(app, stage) {
	const { state, photo, mask, raster, credits, service, form, compiled, problem, attributes } = app
	const { keeps = [], warnings = [], prompt = "" } = compiled ?? {}
	const lacking = missing(app)
	const kept = keeps.map((name) => (attributes[name] ? say(attributes[name]) : name)).join(" · ")
	document.body.dataset.state = state
	each("[data-see]", (element) => (element.hidden = !app.sees(element.dataset.see)))
	each("button[lang]", (button) => (button.ariaPressed = button.lang === language))
	each("[data-tool]", (button) => (button.ariaPressed = button.dataset.tool === stage.hand.tool))
	const all = {
		"mask-undo": { disabled: !mask.done },
		redo: { disabled: mask.done === mask.ops.length },
		clear: { disabled: !raster?.area },
		zoom: { hidden: !photo },
		demo: { hidden: !service.demo },
		credits: { hidden: !credits, textContent: t("balance", { n: credits?.balance }) },
		generate: {
			disabled: !app.sees("generate") || !!lacking.length,
			textContent: t("generate") + (credits ? ` · ${t("cost", { n: credits.cost[form.speed] })}` : ""),
		},
		problem: { textContent: problem ? `${explain(problem)} ${credits ? t("free") : ""}` : "" },
		seed: { value: form.seed },
		lock: { checked: form.lock },
		rebuild: { hidden: form.prompt === null },
		keeps: { textContent: kept && form.prompt === null ? t("keeps", { list: kept }) : "" },
		framed: { textContent: form.ratio && raster?.area && !raster.whole ? t("framed") : "" },
		status: { textContent: statusText(app, lacking) },
	}
	for (const [name, props] of Object.entries(all)) set($(name), props)
	const field = $("compiled-prompt")
	if (field !== document.activeElement) field.value = form.prompt ?? prompt
	$("warnings").replaceChildren(...warnings.map(({ message }) => h("li", {}, say(message))))
	showPictures(app, stage)
}

function statusText(app, lacking) {
	const { state, status, said } = app
	const { waiting_for: reason, queue_position: place, eta_s: left, percent } = (app.sees("busy") && status) || {}
	const list = lacking.map((name) => t(`missing.${name}`)).join(" · ")
	let first = t(state)
	if (state === "queued" && place) first = t("place", { n: place })
	else if (app.sees("generate") && list) first = t("missing", { list })
	if (percent) $("progress").value = percent
	else $("progress").removeAttribute("value")
	document.title = `${app.sees("busy") ? `${percent ? `${percent} %` : "…"} ` : ""}${t("title")}`
	return [said && t(said), first, maybe(`wait.${reason}`), left > 0 && t("eta", { n: left })].filter(Boolean).join(" · ")
}

function showPictures(app, stage) {
	const { photo, result } = app
	const seen = app.sees("result") ? result : photo
	$("mask").hidden = $("cursor").hidden = seen !== photo
	$("plate").hidden = !seen
	if (!seen) return
	stage.setPhoto(seen.width, seen.height)
	show($("photo"), seen.before ?? seen.preview_url)
	if (!result) return
	const { width, height, seed, prompt, result_url: url } = result
	const split = stage.peek ? 100 : $("compare").value
	show(set($("result"), { alt: `${t("after")}: ${prompt}` }), url)
	$("result").style.clipPath = `inset(0 0 0 ${split}%)`
	$("split").style.left = `${stage.view.x + (stage.view.scale * stage.width * split) / 100}px`
	const exact = result.pixels_changed_outside === 0 ? `${t("exact")} · ` : ""
	$("proof").textContent = `${exact}${width} × ${height} · ${t("seed")} ${seed}`
	for (const [kind, more] of [["png", ""], ["jpg", "&format=jpeg"]]) {
		const name = encodeURIComponent(`${result.name.replace(/\.\w+$/, "")}-edited.${kind}`)
		$(`download-${kind}`).href = `${url}${url.includes("?") ? "&" : "?"}download=${name}${more}`
	}
}

function show(image, url) {
	if (image.getAttribute("src") !== url) image.src = url
}

const picture = (src) => h("img", { src, alt: "" })

export function showExtras(extras, mention, drop) {
	const chips = extras.flatMap((extra, i) => {
		const n = i + 2
		const insert = chip(t("picture", { n }), null, () => mention(`Picture ${n}`))
		insert.prepend(picture(extra.preview_url))
		return [insert, chip("×", null, () => drop(extra), { ariaLabel: t("remove", { n }) })]
	})
	$("pictures").replaceChildren(...chips)
}

export function showHistory(history, choose) {
	const chips = history.map((result) =>
		chip(picture(result.result_url), null, () => choose(result), { ariaLabel: result.prompt }),
	)
	$("history").replaceChildren(...chips)
}
