/** Elements by name, and new ones. */

/** The element with this id or test hook. */
export const $ = (name) => document.querySelector(`[id="${name}"], [data-testid="${name}"]`);
export const each = (selector, act) => document.querySelectorAll(selector).forEach(act);

export function h(tag, properties, ...children) {
	const element = Object.assign(document.createElement(tag), properties);
	element.append(...children);
	return element;
}

/** A button that is on or off, or neither (null). */
export const chip = (text, ariaPressed, onclick, id = "") =>
	h("button", { type: "button", className: "chip", ariaPressed, onclick, id }, text);
