"""What is written around the edits: pictures, where, keep, identity, framing, finish. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from gateway.prompt.clauses import Said, joined
from gateway.prompt.sentences import Subject, sentences
from gateway.prompt.user_text import found_words, outside_quotes, sentence

MOST_WORDS = 120
# Words of many letters; with the longest text and one edit it is still under the worker's limit.
_MOST_CHARACTERS = 4_000


class LeftOut(IntEnum):
    """What goes first where the words are too many; each goes with all before it."""

    NOTHING = 0
    FINISH = 1
    FRAMING = 2
    KEEP = 3
    WHERE = 4
    IDENTITY = 5


class Brevity(NamedTuple):
    short_edits: bool
    left_out: LeftOut


# From the fullest: short sentences make room for what is kept before that goes unsaid.
BREVITIES = (
    *(Brevity(False, left_out) for left_out in LeftOut if left_out < LeftOut.KEEP),
    *(Brevity(True, left_out) for left_out in LeftOut),
)


@dataclass(frozen=True, slots=True)
class Scene:
    """What holds for the whole request. `text` has its quotation marks in pairs; `text_touches` are
    the attributes that it seems to speak of, and `text_asks_for_a_style` that it may be drawn."""

    subject_name: str
    text: str
    masked: bool
    text_touches: frozenset[str]
    text_asks_for_a_style: bool

    @property
    def subject(self) -> Subject:
        return sentences().subjects[self.subject_name]


def look_at(subject_name: str, text: str, *, masked: bool) -> Scene:
    table = sentences()
    outside = outside_quotes(text)
    touches = {name for name, of in table.attributes.items() if found_words(outside, of.words)}
    if found_words(outside, table.looked_for["lettering"]):
        touches.add("lettering")
    drawn = bool(found_words(outside, table.looked_for["style"]))
    if drawn:
        touches |= {"colours", "lighting"}
    return Scene(subject_name, text, masked, frozenset(touches), drawn)


@dataclass(frozen=True, slots=True)
class Written:
    prompt: str
    keeps: tuple[str, ...]
    brevity: Brevity

    @property
    def word_count(self) -> int:
        return len(self.prompt.split())

    @property
    def fits(self) -> bool:
        return self.word_count <= MOST_WORDS and len(self.prompt) <= _MOST_CHARACTERS


def write(said: Sequence[Said], scene: Scene, brevity: Brevity) -> Written:
    edits = [
        *(_edit(one, brevity) for one in said if not one.category.last),
        sentence(scene.text),
        *(_edit(one, brevity) for one in said if one.category.last),
    ]
    if any(one.category.bare for one in said):
        return Written(_paragraph(edits), (), brevity)
    touched = scene.text_touches.union(*(one.touches for one in said))
    left_out = brevity.left_out
    keeps = _keeps(scene, touched) if left_out < LeftOut.KEEP else ()
    around = (
        (LeftOut.WHERE, _where(said, scene)),
        (LeftOut.KEEP, _keep(keeps, said, scene)),
        (LeftOut.IDENTITY, _identity(said, scene, touched)),
        (LeftOut.FRAMING, _framing(scene, touched)),
        (LeftOut.FINISH, _finish(said, scene)),
    )
    told = [text for what, text in around if left_out < what]
    return Written(_paragraph([_pictures(said), *edits, *told]), keeps, brevity)


def _paragraph(parts: Sequence[str]) -> str:
    return " ".join(part for part in parts if part)


def _edit(said: Said, brevity: Brevity) -> str:
    return said.short if brevity.short_edits else said.text


def _pictures(said: Sequence[Said]) -> str:
    things = list(dict.fromkeys(thing for one in said for thing in one.from_picture_2))
    return sentences().frame["pictures"].format(things=joined(things)) if things else ""


def _where(said: Sequence[Said], scene: Scene) -> str:
    if not scene.masked or any(one.category.whole_photo for one in said):
        return ""
    frame = sentences().frame
    # Their own words may be about something else than the options.
    if scene.text:
        return frame["where_unnamed"]
    return frame["where"].format(targets=joined(list(dict.fromkeys(one.target for one in said))))


def _keeps(scene: Scene, touched: frozenset[str]) -> tuple[str, ...]:
    """With a mask, what is outside it is the photo's own anyway."""
    guarded = {"background", "framing"} if scene.masked else set()
    return tuple(name for name in scene.subject.keeps if name not in touched | guarded)


def _keep(keeps: Sequence[str], said: Sequence[Said], scene: Scene) -> str:
    if not keeps:
        return ""
    frame = sentences().frame
    keep = frame["keep_otherwise" if scene.text else "keep"]
    how = frame["how_in_a_style" if _becomes_another_kind(said, scene) else "how"]
    return keep.format(attributes=joined(keeps), how=how)


def _identity(said: Sequence[Said], scene: Scene, touched: frozenset[str]) -> str:
    if any(_takes_somebody_away(one, scene) for one in said):
        return ""
    subjects = [scene.subject]
    product = sentences().subjects["product"]
    if any(one.category.subject == "product" for one in said) and product not in subjects:
        subjects.append(product)
    return _paragraph([_same(subject, touched) for subject in subjects])


def _takes_somebody_away(said: Said, scene: Scene) -> bool:
    """Of one person the people behind may go; of several, they may be among those to keep."""
    gone = said.target if scene.subject_name == "people" else said.named
    return bool(found_words(gone, sentences().looked_for["person"]))


def _same(subject: Subject, touched: frozenset[str]) -> str:
    marks = [mark for mark in subject.marks if mark not in touched]
    if subject.marks and not marks:
        return ""
    return subject.identity.format(marks=joined(marks)) if marks else subject.identity


def _framing(scene: Scene, touched: frozenset[str]) -> str:
    return "" if scene.masked or "framing" in touched else sentences().frame["framing"]


def _finish(said: Sequence[Said], scene: Scene) -> str:
    wanted = any(one.category.finish == "wanted" for one in said)
    if not wanted or _becomes_another_kind(said, scene):
        return ""
    return sentences().frame["finish"].format(textures=scene.subject.textures)


def _becomes_another_kind(said: Sequence[Said], scene: Scene) -> bool:
    """Whether a photo may become something else, a drawing say."""
    return scene.text_asks_for_a_style or any(one.category.finish == "wrong" for one in said)
