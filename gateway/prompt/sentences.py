"""The sentences of sentences.toml, read once: frame, subjects, attributes, warnings."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gateway.prompt.table import Label


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whom or what a photo shows: how it is spoken of, and what of it is kept."""

    who: str
    edges: str
    anatomy: str
    textures: str
    identity: str
    marks: tuple[str, ...]
    keeps: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    label: Label
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentences:
    frame: Mapping[str, str]
    subjects: Mapping[str, Subject]
    attributes: Mapping[str, Attribute]
    looked_for: Mapping[str, tuple[str, ...]]
    warnings: Mapping[str, Label]


# What a caller may name; the table has one more, for when nobody has said.
SUBJECTS = ("person", "people", "product", "animal", "none")
UNKNOWN_SUBJECT = "unknown"


@cache
def sentences() -> Sentences:
    raw = tomllib.loads(Path(__file__).with_name("sentences.toml").read_text(encoding="utf-8"))
    return Sentences(
        frame=raw["frame"],
        subjects={name: _subject(entry) for name, entry in raw["subjects"].items()},
        attributes={
            name: Attribute(label=Label(entry["th"], entry["en"]), words=tuple(entry["words"]))
            for name, entry in raw["attributes"].items()
        },
        looked_for={name: tuple(words) for name, words in raw["looked_for"].items()},
        warnings={code: Label(**entry) for code, entry in raw["warnings"].items()},
    )


def _subject(raw: Mapping[str, Any]) -> Subject:
    return Subject(**{**raw, "marks": tuple(raw["marks"]), "keeps": tuple(raw["keeps"])})


def warning(code: str, **values: Label | str | int) -> dict[str, Any]:
    """`{code, message: {th, en}}`; a Label among `values` is said in each language."""
    wording = sentences().warnings[code]
    return {
        "code": code,
        "message": {
            "th": wording.th.format(**{k: _in(v, "th") for k, v in values.items()}),
            "en": wording.en.format(**{k: _in(v, "en") for k, v in values.items()}),
        },
    }


def _in(value: Label | str | int, language: str) -> str:
    return str(getattr(value, language) if isinstance(value, Label) else value)
