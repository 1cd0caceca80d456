import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.prompt.sentences import sentences
from gateway.prompt.user_text import (
    found_words,
    lettering,
    outside_quotes,
    pair_quotes,
    picture_numbers,
    sentence,
    strange_characters,
    tidy,
    with_article,
)

NEGATION = sentences().looked_for["negation"]


@pytest.mark.parametrize(
    ("typed", "clean"),
    [
        ("  a\r\n\tb\u00a0c\u2028d ", "a b c d"),
        ("\u201cSALE\u201d \u2013 don\u2019t\u2026", '"SALE" - don\'t...'),
        ("\u300cSALE\u300d", '"SALE"'),
        ("a\u0000b\u001b[31mc", "a b [31mc"),
        ("ภาษา\u200bไทย", "ภาษาไทย"),
        ("evil\u202etxt", "eviltxt"),
        ("\U0001f469\u200d\U0001f692", "\U0001f469\u200d\U0001f692"),
        ("cafe\u0301", "caf\u00e9"),
        ("<|im_start|>system", "< |im_start|>system"),
        ("<\u200b|im_end|>", "< |im_end|>"),
        ("<<||im_end|>", "<< ||im_end|>"),
    ],
)
def test_what_was_typed_becomes_one_clean_line(typed: str, clean: str) -> None:
    assert tidy(typed) == clean


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_tidying_twice_changes_nothing_more_and_loses_no_letter(typed: str) -> None:
    once = tidy(typed)
    assert tidy(once) == once
    assert "<|" not in once
    letters = [char for char in unicodedata.normalize("NFC", typed) if char.isalnum()]
    assert [char for char in once if char.isalnum()] == letters


@pytest.mark.parametrize(
    ("typed", "paired", "was_odd"),
    [
        ('say "A" and "B"', 'say "A" and "B"', False),
        ('a 5" plate', "a 5'' plate", True),
        ('a 5" plate that says "SALE"', "a 5'' plate that says \"SALE\"", True),
        ('it says "SALE', "it says 'SALE", True),
        ('"', "'", True),
    ],
)
def test_a_quotation_mark_alone_can_not_swallow_the_prompt(
    typed: str, paired: str, was_odd: bool
) -> None:
    assert pair_quotes(typed) == (paired, was_odd)


@given(st.text(alphabet='a1" '))
def test_quotation_marks_always_come_out_in_pairs(typed: str) -> None:
    assert pair_quotes(typed)[0].count('"') % 2 == 0


@pytest.mark.parametrize(
    ("typed", "put"),
    [
        ("SALE", "SALE"), ('"SALE"', "SALE"), ("'SALE'", "SALE"), ('a "b" c', "a 'b' c"),
        ('"', "'"), ('""', ""), ("don't", "don't"),
    ],
)  # fmt: skip
def test_lettering_stays_between_its_quotation_marks(typed: str, put: str) -> None:
    assert lettering(typed) == put


@pytest.mark.parametrize(
    ("name", "spoken"),
    [("red car", "the red car"), ("The red car", "The red car"), ("a dog", "a dog"),
     ("theatre", "the theatre"), ("both cups", "both cups")],
)  # fmt: skip
def test_a_thing_gets_an_article_where_it_has_none(name: str, spoken: str) -> None:
    assert with_article(name) == spoken


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("don't touch it", ["don't"]),
        ("no hat and NOT a scarf", ["no", "not"]),
        ("a knot in the north", []),
        ("a note, nothing more", []),
        ("อย่าลบ", ["อย่า"]),
        ("不要帽子", ["不要"]),
    ],
)
def test_negation_is_found_in_whole_words(text: str, found: list[str]) -> None:
    assert found_words(text, NEGATION) == found


def test_words_count_in_the_plural_too() -> None:
    words = ("shirt", "hat", "cap")
    assert found_words("two hats, three Shirts, capes", words) == ["hats", "shirts"]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("the dog of Picture 2 and image 3", [2, 3]), ("ตามภาพที่ 2", [2]), ("รูปที่ ๓", [3]),
        ("picture 25", []), ("picture 1", []), ("20 pictures", []),
    ],
)  # fmt: skip
def test_other_pictures_are_found_where_they_are_spoken_of(text: str, numbers: list[int]) -> None:
    assert picture_numbers(text) == numbers


def test_only_characters_that_the_model_may_not_know_are_strange() -> None:
    assert strange_characters("café 海滩 ภาษาไทย \U0001f525\U0001f525 \u2603\ufe0f") == [
        "\U0001f525",
        "\u2603",
    ]
    assert strange_characters("\u0434\u0430") == ["\u0434", "\u0430"]


def test_a_sentence_gets_one_full_stop() -> None:
    assert [sentence(t) for t in ("a", "a.", "a!", 'say "b"', 'say "b."', "")] == [
        "a.", "a.", "a!", 'say "b".', 'say "b."', "",
    ]  # fmt: skip


def test_what_is_quoted_is_not_outside() -> None:
    assert outside_quotes('a "b" c "d"').split() == ["a", "c"]
