"""A caller's JSON to a Request, or InvalidOptions that says what, where and what is near. Pure."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.errors import InvalidOptions
from gateway.prompt.sentences import SUBJECTS
from gateway.prompt.table import Category, Field, Label, categories
from gateway.prompt.user_text import tidy

LONGEST_TEXT = 5_000
LONGEST_FIELD = 200
MOST_EDITS = 20

_KEYS = ("edits", "text", "subject", "masked")
_EDIT_KEYS = ("category", "fields")
_SHOWN = 60
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Edit:
    """`values`: an option's id or a tidy text for each field that has one; none is blank."""

    category: Category
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Request:
    """`subject` is None where nobody has said."""

    edits: tuple[Edit, ...]
    text: str
    subject: str | None
    masked: bool


def parse_request(value: object) -> Request:
    """`{edits: [{category, fields}], text, subject, masked}`; each may be absent or null.

    Raises InvalidOptions.
    """
    raw = _known_keys(_object(value, ""), "", _KEYS)
    edits = _or_default(raw.get("edits"), [])
    if not isinstance(edits, list):
        raise _wrong_type("edits", "a list")
    if len(edits) > MOST_EDITS:
        raise InvalidOptions(
            f"edits has {len(edits)} entries; the limit is {MOST_EDITS}",
            reason="too_many", where="edits",
        )  # fmt: skip
    masked = _or_default(raw.get("masked"), False)
    if not isinstance(masked, bool):
        raise _wrong_type("masked", "true or false")
    return Request(
        edits=tuple(_edit(edit, f"edits[{number}]") for number, edit in enumerate(edits)),
        text=_text(_or_default(raw.get("text"), ""), "text", LONGEST_TEXT),
        subject=_subject(raw.get("subject")),
        masked=masked,
    )


def _or_default(value: Any, default: Any) -> Any:
    return default if value is None else value


def _subject(value: object) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise _wrong_type("subject", "a text")
    if value not in SUBJECTS:
        raise _unknown("subject", value, "option", dict.fromkeys(SUBJECTS))
    return value


def _edit(value: object, where: str) -> Edit:
    raw = _known_keys(_object(value, where), where, _EDIT_KEYS)
    name = raw.get("category")
    if name is None:
        raise _missing(f"{where}.category", "every edit names its category")
    if not isinstance(name, str):
        raise _wrong_type(f"{where}.category", "a text")
    known = categories()
    if name not in known:
        labels = {category.id: category.label for category in known.values()}
        raise _unknown(f"{where}.category", name, "category", labels)
    return Edit(known[name], _values(known[name], raw.get("fields"), f"{where}.fields"))


def _values(category: Category, value: object, where: str) -> dict[str, str]:
    raw = _object(_or_default(value, {}), where)
    values = {}
    for name, given in raw.items():
        if name not in category.fields:
            labels = {field.id: field.label for field in category.fields.values()}
            raise _unknown(f"{where}.{_shown(name)}", name, "field", labels)
        if given is not None and (read := _value(category.fields[name], given, f"{where}.{name}")):
            values[name] = read
    for field in category.fields.values():
        if field.required and field.id not in values:
            known = list(field.options)
            raise _missing(
                f"{where}.{field.id}", f"{category.id} needs it; one of {', '.join(known)}", known
            )
    return values


def _value(field: Field, value: object, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong_type(where, "a text")
    if field.kind == "text":
        text = _text(value, where, LONGEST_FIELD)
        return text if text.strip("\"' .") else ""
    if value and value not in field.options:
        labels = {option.id: option.label for option in field.options.values()}
        raise _unknown(where, value, "option", labels)
    return value


def _text(value: object, where: str, longest: int) -> str:
    if not isinstance(value, str):
        raise _wrong_type(where, "a text")
    if len(value) > longest:
        raise InvalidOptions(
            f"{where} has {len(value)} characters; the limit is {longest}",
            reason="too_long", where=where,
        )  # fmt: skip
    if _LONE_SURROGATE.search(value):
        raise InvalidOptions(
            f"{where} holds half a character: a surrogate without its other",
            reason="broken_text", where=where,
        )  # fmt: skip
    return tidy(value)


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise _wrong_type(where, "an object")
    return value


def _known_keys(value: dict[str, Any], where: str, keys: Sequence[str]) -> dict[str, Any]:
    for key in value:
        if key not in keys:
            path = f"{where}.{_shown(key)}" if where else _shown(key)
            raise _unknown(path, key, "field", dict.fromkeys(keys))
    return value


def _wrong_type(where: str, wanted: str) -> InvalidOptions:
    return InvalidOptions(
        f"{where or 'the request'} must be {wanted}", reason="wrong_type", where=where
    )


def _missing(where: str, why: str, known: Sequence[str] = ()) -> InvalidOptions:
    return InvalidOptions(
        f"{where} is missing: {why}", reason="missing_field", where=where, known=list(known)
    )


def _unknown(
    where: str, value: str, what: str, known: Mapping[str, Label | None]
) -> InvalidOptions:
    near = _near(value, known)
    hint = f"nearest: {', '.join(near)}" if near else f"known: {', '.join(known)}"
    return InvalidOptions(
        f"{where}: there is no {what} {_shown(value)!r}; {hint}",
        reason=f"unknown_{what}", where=where, nearest=near, known=list(known),
    )  # fmt: skip


def _near(value: str, known: Mapping[str, Label | None]) -> list[str]:
    """Ids whose name or label, in either language, is most like `value`."""
    names = {name: name for name in known}
    for name, label in known.items():
        if label:
            names |= {label.th: name, label.en.casefold(): name}
    found = difflib.get_close_matches(value[:_SHOWN].casefold(), names, n=3, cutoff=0.5)
    return list(dict.fromkeys(names[name] for name in found))


def _shown(value: str) -> str:
    """Short, and safe to print: it stands in an error that is logged."""
    short = value if len(value) <= _SHOWN else value[: _SHOWN - 3] + "..."
    return short.encode("utf-8", "backslashreplace").decode()
