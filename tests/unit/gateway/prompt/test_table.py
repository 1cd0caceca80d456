import re
import unicodedata
from collections import Counter
from collections.abc import Iterator

import pytest

from gateway.prompt.listing import options
from gateway.prompt.request import SUBJECTS
from gateway.prompt.sentences import UNKNOWN_SUBJECT, sentences
from gateway.prompt.table import Category, Label, categories
from gateway.prompt.user_text import found_words, has_thai

# What C3 of the research lists, in its order, which is the order of the clauses.
IDS = [
    "outfit_colour", "outfit", "background", "hair", "lighting", "style", "remove", "add", "text",
    "pose", "expression", "season", "product", "restore", "colourise", "expand", "skin", "camera",
]  # fmt: skip
ALL = list(categories().values())
# Attributes that identity speaks of, not the sentence of what is kept.
MARKS = {"distinctive marks", "lettering"}


def labels() -> Iterator[tuple[str, Label]]:
    for category in ALL:
        yield category.id, category.label
        for field in category.fields.values():
            yield f"{category.id}.{field.id}", field.label
            for option in field.options.values():
                yield f"{category.id}.{field.id}.{option.id}", option.label
    for name, attribute in sentences().attributes.items():
        yield name, attribute.label
    yield from sentences().warnings.items()


def model_sentences() -> Iterator[str]:
    for category in ALL:
        yield category.target
        for clause in category.clauses:
            yield from (clause.text, clause.short)
        for field in category.fields.values():
            for option in field.options.values():
                yield from (option.say, option.unnamed, option.from_picture_2)
    yield from sentences().frame.values()
    for subject in sentences().subjects.values():
        yield from (subject.who, subject.edges, subject.anatomy, subject.textures)
        yield from (subject.identity, *subject.marks, *subject.keeps)


def test_there_are_the_eighteen_categories_in_their_order() -> None:
    assert list(categories()) == IDS


def test_the_listing_has_the_published_form() -> None:
    listing = options()
    assert list(listing) == ["categories"]
    for category in listing["categories"]:
        assert list(category) == ["id", "label", "fields"]
        for field in category["fields"]:
            assert list(field) == ["id", "label", "kind", "required", "options"]
            assert field["kind"] in ("choice", "text")
            assert bool(field["options"]) == (field["kind"] == "choice")
            for option in field["options"]:
                assert list(option) == ["id", "label"]
                assert list(option["label"]) == ["th", "en"]


def test_a_listing_that_was_changed_leaves_the_next_one_alone() -> None:
    options()["categories"].clear()
    assert len(options()["categories"]) == 18


def test_every_id_is_a_plain_name() -> None:
    for category in ALL:
        for field in category.fields.values():
            names = (category.id, field.id, *field.options)
            assert all(re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", name) for name in names), names


@pytest.mark.parametrize(("name", "label"), list(labels()))
def test_every_label_is_there_in_both_languages(name: str, label: Label) -> None:
    for text in (label.th, label.en):
        assert text == unicodedata.normalize("NFC", text).strip()
        assert text
    assert has_thai(label.th) or re.fullmatch(r"[0-9]+ %", label.th)
    assert not has_thai(label.en)


@pytest.mark.parametrize(("name", "label"), list(labels()))
def test_no_thai_vowel_or_tone_stands_without_its_consonant(name: str, label: Label) -> None:
    above_or_below = "\u0e31\u0e34-\u0e3a\u0e47-\u0e4e"
    assert not re.search(rf"(^|[^\u0e01-\u0e2e{above_or_below}])[{above_or_below}]", label.th)
    assert not re.search(r"[\u0e48-\u0e4b][\u0e31\u0e34-\u0e39]", label.th), "tone before vowel"
    assert "\u0e4d\u0e32" not in label.th, "sara am in two halves"


@pytest.mark.parametrize("category", ALL, ids=IDS)
def test_labels_of_options_are_unique_within_their_category(category: Category) -> None:
    found = [
        option.label for field in category.fields.values() for option in field.options.values()
    ]
    for language in ("th", "en"):
        count = Counter(getattr(label, language) for label in found)
        assert count.most_common(1)[0][1] == 1, count


@pytest.mark.parametrize("text", sorted(set(model_sentences())))
def test_what_the_model_is_told_is_plain_english_without_negation(text: str) -> None:
    assert text.isascii()
    assert found_words(text, sentences().looked_for["negation"]) == []
    assert text == " ".join(text.split())


@pytest.mark.parametrize("category", ALL, ids=IDS)
def test_a_category_names_only_what_there_is(category: Category) -> None:
    known = set(sentences().attributes) | MARKS
    fields = set(category.fields)
    touched = {*category.touches}
    for field in category.fields.values():
        assert field.default in {"", *field.options}
        for option in field.options.values():
            touched |= set(option.touches)
    for clause in category.clauses:
        assert {clause.beside} <= {"", *categories()}
        assert {*clause.needs, *clause.when} <= fields
        assert {clause.lacks} <= {"", *fields}
        assert all(want in category.fields[key].options for key, want in clause.when.items())
        names = {*re.findall(r"\{(\w+)\}", clause.text + clause.short)}
        assert names <= fields | {"who", "edges", "anatomy"}
    assert touched <= known
    assert {*category.one_per, *category.any_of} <= fields
    assert {category.join} <= {"", *fields}
    assert {*category.yields_to, *category.after, *category.warns_with} <= set(categories())
    assert {*category.warns_with.values()} <= set(sentences().warnings)


@pytest.mark.parametrize("category", ALL, ids=IDS)
def test_the_last_clause_of_a_category_fits_what_the_others_do_not(category: Category) -> None:
    last = category.clauses[-1]
    assert (last.when, last.beside, last.needs) == ({}, "", ())


def test_every_subject_is_spoken_of_and_keeps_what_has_a_name() -> None:
    assert set(sentences().subjects) == {*SUBJECTS, UNKNOWN_SUBJECT}
    for subject in sentences().subjects.values():
        assert set(subject.keeps) <= set(sentences().attributes)
        assert len(set(subject.keeps)) == len(subject.keeps)
