"""Which of the edits asked for go into one run, in which order and which sentence. Pure."""

from collections.abc import Sequence
from typing import Any

from gateway.prompt.request import Edit
from gateway.prompt.sentences import warning
from gateway.prompt.table import Category, categories

Warnings = list[dict[str, Any]]


def settle(edits: Sequence[Edit]) -> tuple[list[list[Edit]], Warnings]:
    """Groups in the order in which they are written, each for one sentence, of one category."""
    warnings: Warnings = []
    kept = _filled(edits, warnings)
    kept = _last_of_equals(kept, warnings)
    kept = _alone(kept, warnings)
    kept = _without_yielding(kept, warnings)
    _warn_of_pairs(kept, warnings)
    return _grouped(kept), warnings


def _filled(edits: Sequence[Edit], warnings: Warnings) -> list[Edit]:
    kept = []
    for edit in edits:
        any_of = edit.category.any_of
        if any_of and not any(name in edit.values for name in any_of):
            warnings.append(warning("nothing_chosen", category=edit.category.label))
        else:
            kept.append(edit)
    return kept


def _last_of_equals(edits: Sequence[Edit], warnings: Warnings) -> list[Edit]:
    kept: dict[tuple[str, ...], Edit] = {}
    for edit in edits:
        key = (edit.category.id, *(_slot(edit, name) for name in edit.category.one_per))
        earlier = kept.pop(key, None)
        kept[key] = edit
        if earlier and _agree(earlier, edit):
            kept[key] = Edit(edit.category, {**earlier.values, **edit.values})
        elif earlier:
            warnings.append(warning("last_wins", category=edit.category.label))
    return list(kept.values())


def _agree(one: Edit, other: Edit) -> bool:
    """Such as a hairstyle and a hair colour."""
    return all(other.values.get(key, value) == value for key, value in one.values.items())


def _slot(edit: Edit, field_id: str) -> str:
    field = edit.category.fields[field_id]
    value = edit.values.get(field_id, field.default)
    option = field.options.get(value)
    return option.slot or value if option else value


def _alone(edits: list[Edit], warnings: Warnings) -> list[Edit]:
    """Of a category that needs a run for itself, the first in the table; the rest waits. Restoring
    and colourising are one sentence, so they go together."""
    present = _present(edits)
    winner = next((category for category in present if category.alone), None)
    if winner is None or len(present) == 1:
        return edits
    together = [winner]
    if winner.id == "restore" and any(category.id == "colourise" for category in present):
        together.append(categories()["colourise"])
        warnings.append(warning("one_sentence"))
    for category in present:
        if category not in together:
            warnings.append(second_run(category, winner))
    return [edit for edit in edits if edit.category in together]


def second_run(category: Category, first: Category) -> dict[str, Any]:
    return warning("second_run", category=category.label, winner=first.label)


def _without_yielding(edits: list[Edit], warnings: Warnings) -> list[Edit]:
    present = {category.id: category for category in _present(edits)}
    out = set()
    for category in present.values():
        winner = next((present[name] for name in category.yields_to if name in present), None)
        if winner:
            out.add(category.id)
            warnings.append(warning("left_out", category=category.label, winner=winner.label))
    return [edit for edit in edits if edit.category.id not in out]


def _warn_of_pairs(edits: list[Edit], warnings: Warnings) -> None:
    present = _present(edits)
    ids = {category.id for category in present}
    for category in present:
        warnings.extend(
            warning(code) for other, code in category.warns_with.items() if other in ids
        )


def _present(edits: Sequence[Edit]) -> list[Category]:
    ids = {edit.category.id for edit in edits}
    return [category for category in categories().values() if category.id in ids]


def _grouped(edits: list[Edit]) -> list[list[Edit]]:
    groups: list[list[Edit]] = []
    for category in sorted(_present(edits), key=_place):
        of_category = [edit for edit in edits if edit.category is category]
        groups += [of_category] if category.join else [[edit] for edit in of_category]
    return groups


def _place(category: Category) -> tuple[bool, int, bool]:
    order = list(categories())
    return (
        category.last,
        max(order.index(name) for name in (category.id, *category.after)),
        bool(category.after),
    )
