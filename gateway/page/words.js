/** The page's texts; texts.json has them as [English, Thai]. */

import { each } from "./dom.js"

const texts = await (await fetch(new URL("texts.json", import.meta.url))).json()
export let language = "en"

/** What was chosen last, else what the browser asks for. */
export function preferredLanguage() {
	const wished = [localStorage.language, ...navigator.languages].find((name) => /^(th|en)\b/.test(name))
	return wished?.slice(0, 2) ?? "en"
}

export function speak(name) {
	localStorage.language = document.documentElement.lang = language = name
	each("[data-t]", (element) => (element.textContent = t(element.dataset.t || element.id)))
	each("[data-label]", (element) => (element.ariaLabel = element.title = t(element.dataset.label || element.id)))
}

/** The text of a key, with `{name}` filled in; the key itself where there is none. */
export function t(key, values = {}) {
	const text = texts[key]?.[language === "th" ? 1 : 0] ?? key
	return text.replace(/\{(\w+)\}/g, (_, name) => values[name])
}

/** Empty where there is no such key. */
export const maybe = (key) => (texts[key] ? t(key) : "")

/** One of the `{th, en}` that the server sends. */
export const say = (label) => label[language]

/** A problem in words: what happened, and what to do next. */
export function explain({ code, message, retryable }) {
	const what = (language === "en" && message?.replace(/\.$/, "")) || t("failed")
	return maybe(`error.${code}`) || t(retryable ? "error.again" : "error.change", { what, code })
}
