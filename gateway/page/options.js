/** The option cards, from what the prompt engine offers; the page itself knows no option. */

import { $, chip, h } from "./dom.js"
import { say } from "./words.js"

/** `edits` is {category: {field: option or text}}, changed in place; `changed` is told. */
export function showOptions(categories, edits, changed) {
	/** A chip that puts `value` into `map`, or takes it out again. */
	function toggle(text, map, key, value, id) {
		const on = map === edits ? key in edits : map[key] === value
		const press = () => {
			if (on) delete map[key]
			else map[key] = value
			changed()
			showOptions(categories, edits, changed)
			// The pressed button is a new one: focus stays where it was.
			$(id).focus()
		}
		return chip(text, on, press, { id })
	}
	$("categories").replaceChildren(...categories.map(({ id, label }) => toggle(say(label), edits, id, {}, `option-${id}`)))
	$("cards").replaceChildren(...categories.filter(({ id }) => edits[id]).map(card))

	function card({ id, label, fields }) {
		return h("section", {}, h("h3", {}, say(label)), ...fields.map(field))

		function field({ id: name, label, kind, options }) {
			const title = say(label)
			const chosen = edits[id]
			if (kind === "text") {
				const oninput = ({ target }) => changed((chosen[name] = target.value))
				return h("label", {}, title, h("input", { value: chosen[name] ?? "", maxLength: 200, oninput }))
			}
			const chips = options.map((option) =>
				toggle(say(option.label), chosen, name, option.id, `option-${id}-${name}-${option.id}`),
			)
			return h("fieldset", { className: "row" }, h("legend", {}, title), ...chips)
		}
	}
}
