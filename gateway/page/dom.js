/** Elements by name, and new ones. */

/** The element with this id or test hook. */
export const $ = (name) => document.querySelector(`[id="${name}"], [data-testid="${name}"]`)
export const each = (selector, act) => document.querySelectorAll(selector).forEach(act)

/** Sets props, where they differ: what is announced is announced once. */
export function set(element, props) {
	for (const [key, value] of Object.entries(props)) if (element[key] !== value) element[key] = value
	return element
}

export function h(tag, props, ...children) {
	const element = Object.assign(document.createElement(tag), props)
	element.append(...children)
	return element
}

/** A button that is on or off, or neither (null). */
export const chip = (text, ariaPressed, onclick, more) =>
	h("button", { type: "button", className: "chip", ariaPressed, onclick, ...more }, text)
