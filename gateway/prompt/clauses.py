"""One group of edits to its sentence: the table's clause with the values put in. Pure."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.prompt.request import Edit
from gateway.prompt.sentences import Subject, warning
from gateway.prompt.table import Category, Clause, Field, Option
from gateway.prompt.user_text import lettering, pair_quotes, with_article

_OPTIONAL = re.compile(r"\[([^\]]*)\]")
_PLACEHOLDER = re.compile(r" ?\{(\w+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """`text` and `short` are the sentence in full and at its shortest; `target` is what to speak of
    where a mask is painted; `named` what the person called a thing, `drawn` the lettering that the
    model must draw."""

    category: Category
    text: str
    short: str
    target: str
    touches: frozenset[str]
    from_picture_2: tuple[str, ...]
    named: str
    drawn: str
    warnings: tuple[dict[str, Any], ...]


def say(group: Sequence[Edit], beside: Collection[str], subject: Subject, *, masked: bool) -> Said:
    """`group` is of one category; `beside` are the ids of all categories of this run."""
    category = group[0].category
    values = _joined_values(group)
    given = {key for edit in group for key in edit.values}
    clause = next(
        clause
        for clause in category.clauses
        if _fits(clause, [edit.values for edit in group], given, beside)
    )
    options = [option for edit in group for option in _options(edit)]
    whole = {"who": subject.who, "edges": subject.edges, "anatomy": subject.anatomy, **values}
    fields = category.fields.values()
    return Said(
        category=category,
        text=_capital(fill(clause.text, whole)),
        short=_capital(fill(clause.short or clause.text, whole)),
        target=fill(category.target, whole),
        touches=frozenset(category.touches).union(*(option.touches for option in options)),
        from_picture_2=tuple(o.from_picture_2 for o in options if o.from_picture_2),
        named=" ".join(
            e.values.get(field.id, "") for e in group for field in fields if field.article
        ),
        drawn=" ".join(values.get(field.id, "") for field in fields if field.drawn),
        warnings=tuple(_warnings(group, clause, options, masked=masked)),
    )


def _joined_values(group: Sequence[Edit]) -> dict[str, str]:
    """Of several edits a field says what the last one gave, and the joined field what each gave."""
    values: dict[str, str] = {}
    parts = []
    for edit in group:
        says = _said_values(edit)
        values |= {k: v for k, v in says.items() if k in edit.values or k not in values}
        parts.append(says.get(edit.category.join, ""))
    join = group[0].category.join
    return values | ({join: joined(list(dict.fromkeys(parts)))} if join else {})


def _fits(
    clause: Clause,
    chosen: Sequence[Mapping[str, str]],
    given: Collection[str],
    beside: Collection[str],
) -> bool:
    return (
        all(any(values.get(key) == want for values in chosen) for key, want in clause.when.items())
        and (not clause.beside or clause.beside in beside)
        and all(key in given for key in clause.needs)
    )


def _options(edit: Edit) -> list[Option]:
    found = (_option(edit, field) for field in edit.category.fields.values())
    return [option for option in found if option]


def _option(edit: Edit, field: Field) -> Option | None:
    return field.options.get(edit.values.get(field.id, field.default))


def _said_values(edit: Edit) -> dict[str, str]:
    """What each field says in a clause, for those with something to say."""
    fields = edit.category.fields.values()
    texts = {
        field.id: _said_text(field, edit.values.get(field.id, ""))
        for field in fields
        if field.kind == "text"
    }
    says = {
        field.id: fill(option.say, texts) or option.unnamed
        for field in fields
        if (option := _option(edit, field))
    }
    return {key: value for key, value in (texts | says).items() if value}


def _said_text(field: Field, typed: str) -> str:
    if field.quoted:
        return lettering(typed)
    text = pair_quotes(typed)[0].rstrip(" .")
    return with_article(text) if text and field.article else text


def fill(template: str, values: Mapping[str, str]) -> str:
    """`{name}` is put in, or goes with the space before it; `[...]` goes where none of its names
    has a value. What is put in is not looked at again."""

    def optional(match: re.Match[str]) -> str:
        inside = match[1]
        return inside if any(values.get(name) for name in _PLACEHOLDER.findall(inside)) else ""

    def put_in(match: re.Match[str]) -> str:
        value = values.get(match[1], "")
        return f"{' ' if match[0].startswith(' ') else ''}{value}" if value else ""

    return _PLACEHOLDER.sub(put_in, _OPTIONAL.sub(optional, template))


def joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _unused(group: Sequence[Edit], clause: Clause) -> list[Field]:
    """What was filled in for nothing: words that are not said are lost without a word."""
    category = group[0].category
    said = [clause.text, *(option.say for edit in group for option in _options(edit))]
    used = {name for text in said for name in _PLACEHOLDER.findall(text)}
    used |= {name for other in category.clauses for name in other.when}
    return [
        field
        for field in category.fields.values()
        if not (field.required or field.unsaid or field.id in used)
        and any(field.id in edit.values for edit in group)
    ]


def _is_unnamed(edit: Edit, option: Option) -> bool:
    names = _PLACEHOLDER.findall(option.say)
    return bool(option.unnamed) and not any(name in edit.values for name in names)


def _warnings(
    group: Sequence[Edit], clause: Clause, options: Sequence[Option], *, masked: bool
) -> list[dict[str, Any]]:
    category = group[0].category
    found = []
    if clause.lacks:
        missing = category.fields[clause.lacks].label
        found.append(warning("words_missing", category=category.label, field=missing))
    found += [
        warning("not_used", category=category.label, field=field.label)
        for field in _unused(group, clause)
    ]
    if any(_is_unnamed(edit, option) for edit in group for option in _options(edit)):
        found.append(warning("name_missing"))
    if category.mask_advised and not masked:
        found.append(warning("mask_advised"))
    found += [
        warning("mask_needed", option=option.label)
        for option in options
        if option.needs_mask and not masked
    ]
    if category.whole_photo and not category.mask_is_padding and masked:
        found.append(warning("whole_photo", category=category.label))
    if category.lora:
        found.append(warning("lora_needed", category=category.label))
    return found
