import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.prompt import attribute_labels, compile_prompt, options, sees_whole_photo
from gateway.prompt.conflicts import settle
from gateway.prompt.frame import MOST_WORDS
from gateway.prompt.request import LONGEST_FIELD, LONGEST_TEXT, MOST_EDITS, SUBJECTS, parse_request
from gateway.prompt.sentences import sentences
from gateway.prompt.table import categories
from gateway.prompt.user_text import found_words, outside_quotes

PERSON = "It is the same person: same facial features, skin tone, age and distinctive marks."
PEOPLE = "Every person keeps their own face and place."
FRAMING = "Same crop, camera angle and scale."
FINISH = "Photographic and natural"
WORKERS_LONGEST_PROMPT = 10_000


def edit(category: str, **fields: str) -> dict[str, Any]:
    return {"category": category, "fields": fields}


def compiled(*edits: dict[str, Any], **more: Any) -> dict[str, Any]:
    return compile_prompt({"edits": list(edits), "subject": "person", **more})


def codes(answer: dict[str, Any]) -> list[str]:
    return [warning["code"] for warning in answer["warnings"]]


def minimal(category_id: str) -> dict[str, Any]:
    """An edit of the category with what it needs to say something."""
    category = categories()[category_id]
    fields = {
        field.id: next(iter(field.options))
        for field in category.fields.values()
        if field.required or field.id in category.any_of
    }
    return edit(category_id, **fields)


SUIT = edit("outfit", outfit="business_suit")
GOWN = edit("outfit", outfit="evening_gown")
RED_TOP = edit("outfit_colour", colour="red", part="top")
BOB = edit("hair", style="bob")
BEACH = edit("background", scene="beach")
ANIME = edit("style", style="anime")
NIGHT = edit("season", time="night")
NEON = edit("lighting", light="neon")
MARBLE = edit("product", setting="marble")
SCRATCHES = edit("restore", damage="scratches")
LITTER = edit("remove", thing="litter")
ROTATE = edit("camera", move="left_45")


def test_a_prompt_is_edits_then_keep_identity_framing_and_finish() -> None:
    assert compiled(RED_TOP)["prompt"] == (
        "Recolour the top to red while the cut, fabric, pattern, folds and shading stay the same. "
        "Keep the face, expression, hairstyle, pose, body shape, background, lighting and framing "
        f"exactly as in Picture 1. {PERSON} {FRAMING} Photographic and natural: real skin and "
        "fabric texture, the same grain and sharpness as the original."
    )


def test_edits_stand_in_the_order_of_the_table_with_style_last() -> None:
    prompt = compiled(ANIME, NIGHT, BOB, BEACH, text="hold a rose")["prompt"]
    starts = ["Replace the background", "Give the person", "Set the scene", "hold a rose", "Render"]
    assert sorted(starts, key=prompt.index) == starts


def test_a_new_outfit_is_dressed_before_it_is_coloured() -> None:
    prompt = compiled(RED_TOP, SUIT)["prompt"]
    assert prompt.index("Dress the person") < prompt.index("Make the top red.")
    assert "stay the same" not in prompt


def test_a_painted_mask_names_the_target_and_guards_background_and_framing() -> None:
    answer = compiled(RED_TOP, BOB, masked=True)
    where = "Apply this only to the top and the hair in the marked area of the picture."
    assert where in answer["prompt"]
    assert {"background", "framing"}.isdisjoint(answer["keeps"])
    assert FRAMING not in answer["prompt"]
    assert PERSON in answer["prompt"]


def test_a_mask_with_a_whole_photo_edit_names_no_area_and_says_so() -> None:
    answer = compiled(RED_TOP, BEACH, masked=True)
    assert "marked area" not in answer["prompt"]
    assert codes(answer) == ["whole_photo"]


def test_own_words_come_first_where_something_is_kept() -> None:
    answer = compiled(text="put him on a beach in a red coat")
    assert answer["prompt"].startswith("put him on a beach in a red coat. Otherwise keep the face,")
    assert {"outfit", "background", "colours", "lighting"}.isdisjoint(answer["keeps"])


@pytest.mark.parametrize(
    ("subject", "identity"),
    [
        ("person", PERSON),
        ("people", PEOPLE),
        ("product", "It is the same product: same shape, proportions, markings and lettering."),
        ("animal", "It is the same animal: same shape, proportions and markings."),
        (None, "Any person in it is the same person: same facial features, skin tone, age and"),
    ],
)
def test_whoever_is_in_the_photo_stays_who_they_are(subject: str | None, identity: str) -> None:
    for masked in (False, True):
        assert identity in compiled(NEON, subject=subject, masked=masked)["prompt"]


def test_a_landscape_has_no_identity_and_no_skin() -> None:
    prompt = compiled(NIGHT, subject="none")["prompt"]
    assert "same person" not in prompt
    assert "skin" not in prompt


def test_a_missing_subject_is_taken_from_the_edits_and_pointed_out() -> None:
    hair, marble = compiled(BOB, subject=None), compiled(MARBLE, subject=None)
    assert PERSON in hair["prompt"]
    assert "It is the same product" in marble["prompt"]
    assert codes(hair) == codes(marble) == ["subject_missing"]


def test_an_edit_of_a_person_in_a_photo_without_one_is_pointed_out() -> None:
    for subject in ("none", "product"):
        assert codes(compiled(BOB, subject=subject)) == ["person_needed"]
    assert codes(compiled(SUIT, subject="animal")) == []


def test_a_person_with_a_product_keep_both_likenesses() -> None:
    prompt = compiled(MARBLE)["prompt"]
    assert PERSON in prompt
    assert "It is the same product" in prompt


@pytest.mark.parametrize(
    ("edit_", "subject"),
    [
        (edit("remove", thing="painted", name="woman in red"), "person"),
        (edit("remove", thing="painted", name="คนใส่เสื้อแดง"), "people"),
        (edit("remove", thing="people_behind"), "people"),
        (edit("remove", thing="painted", name="the boy"), None),
    ],
)
def test_whoever_is_removed_is_not_kept(edit_: dict[str, Any], subject: str | None) -> None:
    car = edit("remove", thing="painted", name="red car")
    prompt = compiled(edit_, car, LITTER, subject=subject)["prompt"]
    assert "same person" not in prompt
    assert PEOPLE not in prompt


def test_the_people_behind_one_person_are_removed_and_the_person_kept() -> None:
    assert PERSON in compiled(edit("remove", thing="people_behind"))["prompt"]


def test_marks_that_an_edit_touches_are_not_promised() -> None:
    skin = compiled(edit("skin", look="fewer_blemishes"))["prompt"]
    assert "same facial features, skin tone and age." in skin
    text = compiled(edit("text", action="replace", old="A", new="B"), subject="product")["prompt"]
    assert "same shape, proportions and markings." in text


@pytest.mark.parametrize(
    "edits",
    [[ANIME], [ANIME, BOB], [edit("text", action="remove")], [SCRATCHES],
     [edit("colourise")], [ROTATE]],
)  # fmt: skip
def test_no_photographic_finish_where_it_would_be_wrong(edits: list[dict[str, Any]]) -> None:
    assert FINISH not in compiled(*edits)["prompt"]
    assert FINISH not in compiled(BOB, text="as a cartoon")["prompt"]
    assert FINISH in compiled(BOB, edit("text", action="remove"))["prompt"]


def test_what_becomes_a_drawing_is_kept_but_not_exactly() -> None:
    assert " as in Picture 1." in compiled(ANIME)["prompt"]
    assert "exactly" not in compiled(ANIME)["prompt"]


@pytest.mark.parametrize(
    ("edits", "prompt"),
    [
        ([SCRATCHES],
         "Restore the photo: repair scratches and tears; faces and the period look stay."),
        ([edit("restore", damage="fading", colour="colourise")], "Restore and colorize the photo."),
        ([edit("colourise")], "Restore and colorize the photo."),
        ([edit("colourise", tone="old_film")],
         "Restore and colorize the photo. Use old film tones."),
        ([edit("colourise", tone="natural"), SCRATCHES],
         "Restore and colorize the photo. Use natural colours."),
        ([edit("colourise"), SCRATCHES], "Restore and colorize the photo."),
        ([ROTATE], "Rotate the camera 45 degrees to the left."),
    ],
)  # fmt: skip
def test_fixed_sentences_travel_alone(edits: list[dict[str, Any]], prompt: str) -> None:
    for subject in SUBJECTS:
        answer = compiled(*edits, subject=subject)
        assert (answer["prompt"], answer["keeps"]) == (prompt, [])


def test_own_words_beside_a_fixed_sentence_stay_and_are_pointed_out() -> None:
    answer = compiled(SCRATCHES, text="add a hat")
    assert answer["prompt"].endswith("look stay. add a hat.")
    assert codes(answer) == ["mixed_with_fixed"]


@pytest.mark.parametrize("other", [name for name in categories() if name != "restore"])
def test_restoring_leaves_everything_else_to_a_second_run(other: str) -> None:
    answer = compiled(minimal(other), SCRATCHES)
    assert codes(answer) == ["one_sentence" if other == "colourise" else "second_run"]
    assert answer["prompt"].startswith("Restore ")
    assert answer["keeps"] == []


@pytest.mark.parametrize(
    ("edits", "winner", "gone"),
    [
        ([NIGHT, NEON], "Set the scene", "Relight"),
        ([NEON, MARBLE], "Make a product", "Relight"),
        ([BEACH, MARBLE], "Make a product", "Replace the background"),
        ([NIGHT, MARBLE], "Make a product", "Set the scene"),
        ([GOWN, SUIT], "business suit", "gown"),
        ([SUIT, GOWN], "gown", "business suit"),
        ([ROTATE, BOB], "Rotate", "bob"),
        ([edit("expand", side="left"), BOB], "Extend", "bob"),
        ([edit("expression", expression="laugh"), edit("expression", expression="serious")],
         "serious", "laugh"),
    ],
)  # fmt: skip
def test_of_two_that_exclude_each_other_one_is_told_and_the_other_explained(
    edits: list[dict[str, Any]], winner: str, gone: str
) -> None:
    answer = compiled(*edits)
    assert winner in answer["prompt"]
    assert gone not in answer["prompt"]
    assert set(codes(answer)) & {"left_out", "last_wins", "second_run"}


def test_the_label_of_a_product_in_another_style_is_warned_of_and_both_are_done() -> None:
    answer = compiled(ANIME, MARBLE, subject="product")
    assert codes(answer) == ["label_may_change"]
    assert "Render the whole" in answer["prompt"]
    assert "Make a product" in answer["prompt"]


def test_the_same_edit_twice_is_one_without_a_word() -> None:
    assert compiled(BOB, RED_TOP, BOB) == compiled(BOB, RED_TOP)


def test_edits_that_complete_each_other_become_one() -> None:
    both = edit("hair", style="bob", colour="ash_grey")
    assert compiled(BOB, edit("hair", colour="ash_grey")) == compiled(both)


def test_things_to_remove_share_a_sentence() -> None:
    prompt = compiled(LITTER, edit("remove", thing="sign"), edit("remove", thing="power_lines"))
    assert "Remove the litter, the sign and the power lines and rebuild" in prompt["prompt"]


def test_edits_of_different_parts_stand_side_by_side() -> None:
    white = edit("outfit_colour", colour="white", part="trousers")
    answer = compiled(RED_TOP, white)
    assert "the top to red" in answer["prompt"]
    assert "the trousers to white" in answer["prompt"]
    assert codes(answer) == []


def test_an_open_eye_goes_with_a_smile() -> None:
    smile = edit("expression", expression="gentle_smile")
    answer = compiled(smile, edit("expression", expression="eyes_open"))
    assert "smile" in answer["prompt"]
    assert "open eyes" in answer["prompt"]


def test_a_second_picture_is_introduced_and_asked_for() -> None:
    answer = compiled(edit("outfit", outfit="picture_2"), edit("pose", pose="picture_2"))
    start = "Edit Picture 1 and take only the outfit and the pose from Picture 2. "
    assert answer["prompt"].startswith(start)
    assert codes(answer) == ["picture_needed"]


def test_lettering_can_not_leave_its_quotation_marks() -> None:
    answer = compiled(
        edit("text", action="replace", old='"SALE"', new='OFF" and add a "cat'), subject="product"
    )
    assert """text "SALE" with "OFF' and add a 'cat", same""" in answer["prompt"]


def test_thai_lettering_is_warned_of_only_where_it_is_to_be_drawn() -> None:
    drawn = compiled(edit("text", action="replace", old="SALE", new="ลดราคา"))
    gone = compiled(edit("text", action="replace", old="ลดราคา", new="SALE"))
    assert codes(drawn) == ["thai_lettering"]
    assert codes(gone) == []
    assert codes(compiled(text='write "สวัสดี" on the wall')) == ["thai_lettering"]
    assert codes(compiled(text="write สวัสดี")) == ["thai_text"]


def test_a_place_to_paint_and_a_thing_to_name_are_asked_for() -> None:
    painted = edit("add", object="ginger_cat", place="painted")
    assert codes(compiled(painted)) == ["mask_needed"]
    assert codes(compiled(painted, masked=True)) == []
    thing = edit("remove", thing="painted")
    assert codes(compiled(thing)) == ["name_missing", "mask_advised"]
    assert codes(compiled(thing, masked=True)) == ["name_missing"]


def test_a_thing_named_beside_a_choice_is_removed_as_well() -> None:
    sign = edit("remove", thing="sign", name="yellow board")
    answer = compiled(sign, edit("remove", thing="litter"), masked=True)
    assert "Remove the sign and the yellow board and the litter and" in answer["prompt"]


def test_what_was_filled_in_for_nothing_is_pointed_out() -> None:
    answer = compiled(edit("text", action="remove", old="A", new="B", font="serif"))
    assert codes(answer) == ["not_used", "not_used"]
    assert "“New words”" in answer["warnings"][0]["message"]["en"]
    assert codes(compiled(edit("expand", side="left", amount="25_percent"))) == []
    assert codes(compiled(edit("restore", damage="fading", colour="as_it_is"))) == []


def test_words_of_nothing_but_quotation_marks_are_no_words() -> None:
    answer = compiled(edit("text", action="replace", old="SALE", new='""'))
    assert '""' not in answer["prompt"]
    assert codes(answer) == ["words_missing"]


def test_values_that_look_like_templates_stay_as_they_are() -> None:
    name = "{name} [x] {0} %s {who}"
    prompt = compiled(edit("remove", thing="painted", name=name), text="{colour} [ {part}]")
    assert f"Remove the {name} and rebuild" in prompt["prompt"]
    assert "{colour} [ {part}]." in prompt["prompt"]


def test_too_many_words_lose_the_finish_first_and_the_likeness_never() -> None:
    five = compiled(SUIT, BEACH, BOB, LITTER, edit("skin", look="peach_lips"))
    assert FINISH not in five["prompt"]
    assert "fitted to the same body" in five["prompt"]
    seven = compiled(
        SUIT, BEACH, BOB, NIGHT, ANIME, LITTER, edit("pose", pose="wai"),
        edit("add", object="balloons", place="left_hand"),
    )  # fmt: skip
    assert "fitted to the same body" not in seven["prompt"]
    assert "same facial features" in seven["prompt"]
    assert codes(seven).count("shortened") == 1


def test_what_does_not_fit_at_all_waits_for_a_second_run() -> None:
    adds = [
        edit("text", action="add", new=f"a sign with quite a few words on it, number {number}")
        for number in range(20)
    ]
    answer = compiled(*adds)
    assert len(answer["prompt"].split()) <= MOST_WORDS
    assert PERSON in answer["prompt"]
    # `one_per` has told the twenty apart.
    assert 1 < answer["prompt"].count("Add the text") < 20
    assert "second_run" in codes(answer)


def test_own_words_are_never_cut() -> None:
    text = " ".join(f"word{number}" for number in range(400))
    answer = compiled(SUIT, text=text)
    assert text in answer["prompt"]
    assert "Dress the person" in answer["prompt"]
    assert "long_text" in codes(answer)


def test_even_the_longest_request_fits_the_workers_limit() -> None:
    longest = [
        edit("text", action="replace", old=f"{number:x>200}", new="y" * LONGEST_FIELD)
        for number in range(MOST_EDITS)
    ]
    answer = compiled(*longest, text="x" * LONGEST_TEXT)
    assert len(answer["prompt"]) <= WORKERS_LONGEST_PROMPT


@pytest.mark.parametrize(
    "name", ["pose", "background", "style", "season", "product", "camera", "expand", "colourise"]
)
def test_what_concerns_the_whole_photo_is_not_cropped_to_the_mask(name: str) -> None:
    assert sees_whole_photo({"edits": [minimal("skin"), minimal(name)], "masked": True})


@pytest.mark.parametrize(
    "name",
    ["outfit_colour", "outfit", "hair", "lighting", "remove", "add", "text", "expression", "skin"],
)
def test_what_concerns_a_part_is_cropped_to_the_mask(name: str) -> None:
    assert not sees_whole_photo({"edits": [minimal(name)], "text": "and a hat", "masked": True})


def test_an_edit_left_out_does_not_ask_for_the_whole_photo() -> None:
    assert not sees_whole_photo({"edits": [SCRATCHES, BEACH]})


@pytest.mark.parametrize("pair", list(itertools.combinations(categories(), 2)), ids="+".join)
@pytest.mark.parametrize("masked", [False, True])
def test_every_pair_of_categories_keeps_the_rules(pair: tuple[str, str], masked: bool) -> None:
    for subject in (None, *SUBJECTS):
        request = {"edits": [minimal(name) for name in pair], "masked": masked, "subject": subject}
        check_rules(request)


def requests() -> st.SearchStrategy[dict[str, Any]]:
    own_words = st.sampled_from(
        ["", "add a red hat", "ใส่หมวกสีแดง", 'a sign "OPEN"', 'one " alone', "don't touch", "🔥",
         "line\none", "<|im_end|>", "a " * 90, "the \u201cสวัสดี\u201d sign"]
    )  # fmt: skip
    edits = st.one_of([_edits_of(category) for category in options()["categories"]])
    return st.fixed_dictionaries(
        {
            "edits": st.lists(edits, max_size=3) | st.lists(edits, max_size=MOST_EDITS),
            "text": own_words
            | st.text(max_size=60, alphabet=st.characters(exclude_categories=["Cs"])),
            "subject": st.sampled_from([*SUBJECTS, None]),
            "masked": st.booleans(),
        }
    )


def _edits_of(category: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    texts = st.text(max_size=30, alphabet=st.characters(exclude_categories=["Cs"]))
    values = {
        field["id"]: st.sampled_from([option["id"] for option in field["options"]])
        if field["options"]
        else texts
        for field in category["fields"]
    }
    required = {field["id"] for field in category["fields"] if field["required"]}
    fields = st.fixed_dictionaries(
        {name: value for name, value in values.items() if name in required},
        optional={name: value for name, value in values.items() if name not in required},
    )
    return st.fixed_dictionaries({"category": st.just(category["id"]), "fields": fields})


TEXTS = [
    (category["id"], field["id"], choice, option["id"])
    for category in options()["categories"]
    for field in category["fields"]
    if field["kind"] == "text"
    for choice in [f["id"] for f in category["fields"] if f["required"]]
    for option in next(f for f in category["fields"] if f["id"] == choice)["options"]
]


@pytest.mark.parametrize(("category", "text", "choice", "option"), TEXTS)
def test_a_text_filled_in_is_said_or_pointed_out(
    category: str, text: str, choice: str, option: str
) -> None:
    answer = compiled(edit(category, **{text: "blue zebra", choice: option}))
    assert ("blue zebra" in answer["prompt"]) != ("not_used" in codes(answer))


@settings(max_examples=300, deadline=None)
@given(requests())
def test_any_request_keeps_the_rules(request: dict[str, Any]) -> None:
    check_rules(request)


def check_rules(request: dict[str, Any]) -> None:
    """What holds of every prompt, whatever was asked for."""
    answer = compile_prompt(request)
    prompt, keeps = answer["prompt"], answer["keeps"]
    read = parse_request(request)
    typed = " ".join([read.text, *(v for edit in read.edits for v in edit.values.values())])

    assert prompt == " ".join(prompt.split()), "one paragraph"
    assert prompt.count('"') % 2 == 0
    assert "<|" not in prompt
    if typed.isascii():
        assert outside_quotes(prompt).isascii()
    if len(typed.split()) < 60:
        assert len(prompt.split()) <= MOST_WORDS
    if not found_words(typed, sentences().looked_for["negation"]):
        assert not found_words(outside_quotes(prompt), sentences().looked_for["negation"])
    # Their quotation marks may have been paired; every other character is there, in its order.
    survived = prompt.replace('"', "'").replace("''", "'")
    assert read.text.replace('"', "'").replace("''", "'") in survived

    kept_edits, _ = settle(read.edits)
    assert len(set(keeps)) == len(keeps)
    assert set(keeps) <= set(attribute_labels())
    assert not set(keeps) & {name for group in kept_edits for name in group[0].category.touches}
    if keeps:
        sentence = prompt[prompt.lower().index("keep the ") :].partition(" in Picture 1.")[0]
        assert all(sentence.count(name) == 1 for name in keeps)

    for warning in answer["warnings"]:
        assert set(warning) == {"code", "message"}
        assert all(warning["message"][language] for language in ("th", "en"))
        assert "{" not in warning["message"]["en"].replace(typed, "")
    assert compile_prompt(request) == answer
