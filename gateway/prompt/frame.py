"""What is written around the edits: pictures, where, keep, identity, framing, finish. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from gateway.prompt.clauses import Said, joined
from gateway.prompt.sentences import Subject, sentences
from gateway.prompt.user_text import found_words, outside_quotes, sentence


class Brevity(IntEnum):
    """What goes first where the words are too many; each goes with all before it."""

    FULL = 0
    NO_FINISH = 1
    NO_FRAMING = 2
    SHORT_EDITS = 3
    NO_KEEP = 4
    NO_WHERE = 5
    EDITS_ONLY = 6


@dataclass(frozen=True, slots=True)
class Scene:
    """What holds for the whole request; `text` has its quotation marks in pairs."""

    subject_name: str
    text: str
    masked: bool

    @property
    def subject(self) -> Subject:
        return sentences().subjects[self.subject_name]


@dataclass(frozen=True, slots=True)
class Written:
    prompt: str
    keeps: tuple[str, ...]
    brevity: Brevity

    @property
    def word_count(self) -> int:
        return len(self.prompt.split())


def write(said: Sequence[Said], scene: Scene, brevity: Brevity) -> Written:
    edits = [
        *(_edit(one, brevity) for one in said if not one.category.last),
        sentence(scene.text),
        *(_edit(one, brevity) for one in said if one.category.last),
    ]
    if any(one.category.bare for one in said):
        return Written(_paragraph(edits), (), brevity)
    touched = _touched(said, scene)
    keeps = _keeps(scene, touched) if brevity < Brevity.NO_KEEP else ()
    frames = (
        (_where(said, scene), Brevity.NO_WHERE),
        (_keep(keeps, said, scene), Brevity.NO_KEEP),
        (_identity(said, scene, touched), Brevity.EDITS_ONLY),
        (_framing(scene, touched), Brevity.NO_FRAMING),
        (_finish(said, scene), Brevity.NO_FINISH),
    )
    around = [text for text, gone_from in frames if brevity < gone_from]
    return Written(_paragraph([_pictures(said), *edits, *around]), keeps, brevity)


def _paragraph(parts: Sequence[str]) -> str:
    return " ".join(part for part in parts if part)


def _edit(said: Said, brevity: Brevity) -> str:
    return said.short if brevity >= Brevity.SHORT_EDITS else said.text


def _touched(said: Sequence[Said], scene: Scene) -> frozenset[str]:
    """With what the person's own words seem to speak of."""
    table = sentences()
    text = outside_quotes(scene.text)
    by_text = {name for name, of in table.attributes.items() if found_words(text, of.words)}
    if found_words(text, table.looked_for["lettering"]):
        by_text.add("lettering")
    if _text_asks_for_a_style(scene):
        by_text |= {"colours", "lighting"}
    return frozenset(by_text).union(*(one.touches for one in said))


def _text_asks_for_a_style(scene: Scene) -> bool:
    return bool(found_words(outside_quotes(scene.text), sentences().looked_for["style"]))


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
    people_words = sentences().looked_for["person"]
    if any(found_words(one.named, people_words) for one in said):
        return ""
    subjects = [scene.subject]
    product = sentences().subjects["product"]
    if any(one.category.subject == "product" for one in said) and product not in subjects:
        subjects.append(product)
    return _paragraph([_same(subject, touched) for subject in subjects])


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
    return _text_asks_for_a_style(scene) or any(one.category.finish == "wrong" for one in said)
