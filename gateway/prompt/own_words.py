"""What a person should know of the words they typed, before it costs them a run. Pure."""

from collections.abc import Sequence
from typing import Any

from gateway.prompt.clauses import Said
from gateway.prompt.sentences import sentences, warning
from gateway.prompt.user_text import (
    found_words,
    has_thai,
    inside_quotes,
    outside_quotes,
    picture_numbers,
    strange_characters,
)

_SHOWN = 5


def check_words(prompt: str, said: Sequence[Said], text: str) -> list[dict[str, Any]]:
    """`prompt` is the finished one: the sentences of the table are plain English without negation,
    so whatever is found there is the person's. `text` is their free text alone."""
    found = []
    outside = outside_quotes(prompt)
    if has_thai(outside):
        found.append(warning("thai_text"))
    if has_thai(inside_quotes(text) + " ".join(one.drawn for one in said)):
        found.append(warning("thai_lettering"))
    if strange := strange_characters(outside):
        found.append(warning("other_text", shown=" ".join(strange[:_SHOWN])))
    if negations := found_words(outside, sentences().looked_for["negation"]):
        found.append(warning("negation", shown=", ".join(negations[:_SHOWN])))
    numbers = set(picture_numbers(text)) | {2 for one in said if one.from_picture_2}
    found += [warning("picture_needed", number=number) for number in sorted(numbers)]
    return found
