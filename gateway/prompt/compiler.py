"""A request to the prompt, to what it keeps, and to what a person should know. Pure."""

from collections.abc import Sequence
from typing import Any

from gateway.prompt.clauses import Said, say
from gateway.prompt.conflicts import second_run, settle
from gateway.prompt.frame import BREVITIES, MOST_WORDS, LeftOut, Scene, Written, look_at, write
from gateway.prompt.own_words import check_words
from gateway.prompt.request import Request, parse_request
from gateway.prompt.sentences import UNKNOWN_SUBJECT, sentences, warning
from gateway.prompt.user_text import pair_quotes

Warnings = list[dict[str, Any]]


def compile_prompt(request: object) -> dict[str, Any]:
    """`{prompt, keeps, warnings}` of `{edits, text, subject, masked}`: GATEWAY.md, section 4.

    The prompt is one paragraph of at most MOST_WORDS words, unless the person's own words are more:
    those are never cut. It is empty where nothing is asked for. Raises InvalidOptions.
    """
    read = parse_request(request)
    groups, warnings = settle(read.edits)
    text, unpaired = pair_quotes(read.text)
    if unpaired:
        warnings.append(warning("unpaired_quote"))
    if not groups and not text:
        return _result("", (), [*warnings, warning("nothing_asked")])
    scene = look_at(_subject_name(read, groups), text, masked=read.masked)
    beside = {group[0].category.id for group in groups}
    said = [say(group, beside, scene.subject, masked=read.masked) for group in groups]
    written, kept = _shortest_needed(said, scene)
    warnings += [second_run(one.category, said[0].category) for one in said[len(kept) :]]
    warnings += [found for one in kept for found in one.warnings]
    warnings += _about_subject(read, kept)
    warnings += _about_length(written)
    return _result(
        written.prompt, written.keeps, warnings + check_words(written.prompt, kept, text)
    )


def sees_whole_photo(request: object) -> bool:
    """Whether the model must see the whole photo although a mask is painted, so that what travels
    is not a crop around the mask: pose, background, style, season and their like.

    Raises InvalidOptions.
    """
    groups, _ = settle(parse_request(request).edits)
    return any(group[0].category.whole_photo for group in groups)


def attribute_labels() -> dict[str, dict[str, str]]:
    """`{th, en}` of every name that `keeps` may hold."""
    return {
        name: {"th": of.label.th, "en": of.label.en} for name, of in sentences().attributes.items()
    }


def _result(prompt: str, keeps: Sequence[str], warnings: Warnings) -> dict[str, Any]:
    """The same warning twice helps nobody."""
    each_once = [one for at, one in enumerate(warnings) if one not in warnings[:at]]
    return {"prompt": prompt, "keeps": list(keeps), "warnings": each_once}


def _subject_name(request: Request, groups: Sequence[Sequence[Any]]) -> str:
    """What nobody said, the edits may imply."""
    implied = (group[0].category.subject for group in groups)
    return request.subject or next((name for name in implied if name), UNKNOWN_SUBJECT)


def _shortest_needed(said: Sequence[Said], scene: Scene) -> tuple[Written, Sequence[Said]]:
    """The fullest prompt that fits, and the edits in it: the last ones wait for a second run before
    the likeness of a face goes unsaid."""
    least = min(1, len(said))
    for count in range(len(said), least - 1, -1):
        for brevity in BREVITIES:
            if brevity.left_out == LeftOut.IDENTITY and count > least:
                continue
            written = write(said[:count], scene, brevity)
            if written.fits:
                return written, said[:count]
    return written, said[:least]


def _about_subject(request: Request, said: Sequence[Said]) -> Warnings:
    if any(one.category.bare for one in said):
        mixed = request.text and said[0].category
        return [warning("mixed_with_fixed", category=mixed.label)] if mixed else []
    if request.subject is None:
        return [warning("subject_missing")]
    if request.subject not in ("product", "none"):
        return []
    return [
        warning("person_needed", category=one.category.label)
        for one in said
        if one.category.subject == "person"
    ]


def _about_length(written: Written) -> Warnings:
    if written.word_count > MOST_WORDS:
        return [warning("long_text", count=written.word_count, limit=MOST_WORDS)]
    return [warning("shortened")] if written.brevity.short_edits else []
