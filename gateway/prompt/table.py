"""The categories of categories.toml, read once."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Label:
    th: str
    en: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """`say` is its English in a clause, `unnamed` where the text that it speaks of is missing; two
    options of one `slot` exclude each other."""

    id: str
    label: Label
    say: str
    unnamed: str = ""
    slot: str = ""
    touches: tuple[str, ...] = ()
    from_picture_2: str = ""
    needs_mask: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A choice among `options`, or a text: `quoted` stands between quotation marks in a clause,
    `drawn` is lettering that the model must draw, `article` is a thing's name; `unsaid` is for the
    page, not for the model."""

    id: str
    label: Label
    kind: Literal["choice", "text"] = "choice"
    required: bool = False
    options: Mapping[str, Option] = field(default_factory=dict)
    default: str = ""
    unsaid: bool = False
    article: bool = False
    quoted: bool = False
    drawn: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    text: str
    short: str = ""
    when: Mapping[str, str] = field(default_factory=dict)
    beside: str = ""
    needs: tuple[str, ...] = ()
    lacks: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    """The keys are explained at the head of categories.toml."""

    id: str
    label: Label
    fields: Mapping[str, Field]
    clauses: tuple[Clause, ...]
    target: str
    subject: Literal["person", "product", ""] = ""
    touches: tuple[str, ...] = ()
    whole_photo: bool = False
    mask_advised: bool = False
    mask_is_padding: bool = False
    finish: Literal["wanted", "unneeded", "wrong"] = "wanted"
    lora: bool = False
    alone: bool = False
    bare: bool = False
    last: bool = False
    join: str = ""
    one_per: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    yields_to: tuple[str, ...] = ()
    warns_with: Mapping[str, str] = field(default_factory=dict)


@cache
def categories() -> Mapping[str, Category]:
    """By id, in the order in which their clauses are written."""
    raw = tomllib.loads(Path(__file__).with_name("categories.toml").read_text(encoding="utf-8"))
    return {entry["id"]: _category(entry) for entry in raw["categories"]}


def _category(raw: Mapping[str, Any]) -> Category:
    values = _labelled(raw)
    values["fields"] = {entry["id"]: _field(entry) for entry in raw["fields"]}
    values["clauses"] = tuple(Clause(**_frozen(entry)) for entry in raw["clauses"])
    return Category(**values)


def _field(raw: Mapping[str, Any]) -> Field:
    values = _labelled(raw)
    values["options"] = {
        entry["id"]: Option(**_labelled(entry)) for entry in raw.get("options", ())
    }
    return Field(**values)


def _labelled(raw: Mapping[str, Any]) -> dict[str, Any]:
    values = _frozen(raw)
    values["label"] = Label(th=values.pop("th"), en=values.pop("en"))
    return values


def _frozen(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()}
