/** The option cards, from what the prompt engine offers; the page itself knows no option. */

import { $, chip, h } from "./dom.js";
import { say, t } from "./words.js";

/** `edits` is {category: {field: option or text}}, changed in place; `changed` is told. */
export function showOptions(categories, edits, changed) {
	const toggle = (map, key, value, id) => () => {
		if (key in map && (map === edits || map[key] === value)) delete map[key];
		else map[key] = value;
		changed();
		showOptions(categories, edits, changed);
		// The pressed button is a new one: focus stays where it was.
		($(id) ?? $(key)).focus();
	};
	$("categories").replaceChildren(
		...categories.map(({ id, label }) => chip(say(label), id in edits, toggle(edits, id, {}, id), id)),
	);
	$("cards").replaceChildren(...categories.filter(({ id }) => id in edits).map(card));

	function card({ id, label, fields }) {
		const close = chip("×", null, toggle(edits, id));
		close.ariaLabel = t("remove", { name: say(label) });
		return h("section", {}, h("h3", {}, say(label)), close, ...fields.map(field));

		function field({ id: name, label, kind, required, options }) {
			const title = say(label) + (required ? "" : ` (${t("optional")})`);
			const chosen = edits[id];
			if (kind === "text") {
				const oninput = ({ target }) => changed((chosen[name] = target.value));
				const input = h("input", { value: chosen[name] ?? "", maxLength: 200, oninput });
				return h("label", {}, title, input);
			}
			const chips = options.map(({ id: option, label: text }) => {
				const key = `${id}-${name}-${option}`;
				return chip(say(text), chosen[name] === option, toggle(chosen, name, option, key), key);
			});
			return h("fieldset", { className: "row" }, h("legend", {}, title), ...chips);
		}
	}
}
