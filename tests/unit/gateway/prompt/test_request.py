import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.prompt import InvalidOptions, compile_prompt, sees_whole_photo
from gateway.prompt.request import LONGEST_FIELD, LONGEST_TEXT, MOST_EDITS, parse_request


def edit(category: Any, **fields: Any) -> dict[str, Any]:
    return {"category": category, "fields": fields}


def refused(request: object) -> InvalidOptions:
    with pytest.raises(InvalidOptions) as raised:
        compile_prompt(request)
    assert raised.value.code == "invalid_options"
    assert raised.value.message
    json.dumps(raised.value.details)
    raised.value.message.encode()
    return raised.value


@pytest.mark.parametrize(
    ("request_", "where", "reason"),
    [
        (None, "", "wrong_type"),
        ([], "", "wrong_type"),
        ("make it red", "", "wrong_type"),
        ({1: 2}, "", "wrong_type"),
        ({"edit": []}, "edit", "unknown_field"),
        ({"edits": {}}, "edits", "wrong_type"),
        ({"edits": "hair"}, "edits", "wrong_type"),
        ({"edits": [None]}, "edits[0]", "wrong_type"),
        ({"edits": [edit("skin", look="peach_lips"), []]}, "edits[1]", "wrong_type"),
        ({"edits": [{}]}, "edits[0].category", "missing_field"),
        ({"edits": [edit(7)]}, "edits[0].category", "wrong_type"),
        ({"edits": [edit("")]}, "edits[0].category", "unknown_category"),
        ({"edits": [edit("hairs")]}, "edits[0].category", "unknown_category"),
        ({"edits": [{"category": "hair", "option": "bob"}]}, "edits[0].option", "unknown_field"),
        ({"edits": [{"category": "hair", "fields": ["bob"]}]}, "edits[0].fields", "wrong_type"),
        ({"edits": [edit("hair", stile="bob")]}, "edits[0].fields.stile", "unknown_field"),
        ({"edits": [edit("hair", style="bobb")]}, "edits[0].fields.style", "unknown_option"),
        ({"edits": [edit("hair", style=["bob"])]}, "edits[0].fields.style", "wrong_type"),
        ({"edits": [edit("hair", style=True)]}, "edits[0].fields.style", "wrong_type"),
        ({"edits": [edit("expand", side="left", amount=25)]},
         "edits[0].fields.amount", "wrong_type"),
        ({"edits": [edit("outfit")]}, "edits[0].fields.outfit", "missing_field"),
        ({"edits": [edit("outfit", outfit=None)]}, "edits[0].fields.outfit", "missing_field"),
        ({"edits": [edit("outfit", outfit="")]}, "edits[0].fields.outfit", "missing_field"),
        ({"edits": [edit("text", action="add", new=5)]}, "edits[0].fields.new", "wrong_type"),
        ({"text": ["a"]}, "text", "wrong_type"),
        ({"text": "a" * (LONGEST_TEXT + 1)}, "text", "too_long"),
        ({"text": "\ud83d"}, "text", "broken_text"),
        ({"edits": [edit("text", action="add", new="a" * (LONGEST_FIELD + 1))]},
         "edits[0].fields.new", "too_long"),
        ({"edits": [edit("expand", side="left", caption="\udc00")]},
         "edits[0].fields.caption", "broken_text"),
        ({"edits": [edit("skin", look="peach_lips")] * (MOST_EDITS + 1)}, "edits", "too_many"),
        ({"subject": "cat"}, "subject", "unknown_option"),
        ({"subject": "unknown"}, "subject", "unknown_option"),
        ({"subject": ["person"]}, "subject", "wrong_type"),
        ({"masked": "false"}, "masked", "wrong_type"),
        ({"masked": 1}, "masked", "wrong_type"),
    ],
)  # fmt: skip
def test_what_can_not_be_read_is_refused_with_its_place(
    request_: object, where: str, reason: str
) -> None:
    error = refused(request_)
    assert (error.details["where"], error.details["reason"]) == (where, reason)
    assert where.split(".")[0] in error.message


@pytest.mark.parametrize(
    ("request_", "nearest"),
    [
        ({"edits": [edit("outfit_color", colour="red")]}, "outfit_colour"),
        ({"edits": [edit("Remove")]}, "remove"),
        ({"edits": [edit("เปลี่ยนชุด")]}, "outfit"),
        ({"edits": [edit("outfit_colour", color="red")]}, "colour"),
        ({"edits": [edit("outfit_colour", colour="แดง")]}, "red"),
        ({"edits": [edit("outfit_colour", colour="Navy Blue")]}, "navy_blue"),
        ({"subject": "persons"}, "person"),
        ({"edits": [], "mask": True}, "masked"),
    ],
)
def test_a_name_slightly_wrong_or_said_as_the_label_has_its_nearest(
    request_: object, nearest: str
) -> None:
    error = refused(request_)
    assert error.details["nearest"][0] == nearest
    assert nearest in error.message


def test_a_name_like_nothing_is_answered_with_what_there_is() -> None:
    error = refused({"edits": [edit("outfit_colour", colour="zzzz")]})
    assert error.details["nearest"] == []
    assert "lavender" in error.message


def test_a_long_wrong_name_is_shown_short_and_costs_no_time() -> None:
    assert len(refused({"edits": [edit("x" * 1_000_000)]}).message) < 600
    assert len(refused({"y" * 1_000_000: 1}).message) < 600
    refused({"edits": [edit("\ud800")]})
    refused({"edits": [edit("hair", **{"\ud800": "a"})]})


def test_nesting_is_refused_where_it_begins() -> None:
    deep: Any = "bob"
    for _ in range(100_000):
        deep = [deep]
    assert (
        refused({"edits": [edit("hair", style=deep)]}).details["where"] == "edits[0].fields.style"
    )
    assert refused({"edits": deep}).details["where"] == "edits[0]"
    # Unwound by hand: the interpreter's own way of dropping it recurses.
    while isinstance(deep, list):
        deep = deep.pop()


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"edits": None, "text": None, "subject": None, "masked": None},
        {"edits": [], "text": " \n ", "subject": ""},
    ],
)
def test_what_is_absent_null_or_blank_is_nothing_asked(request_: object) -> None:
    answer = compile_prompt(request_)
    assert (answer["prompt"], answer["keeps"]) == ("", [])
    assert [warning["code"] for warning in answer["warnings"]] == ["nothing_asked"]


def test_an_optional_field_may_be_null_or_blank() -> None:
    fields = {"light": "neon", "direction": None}
    bare = compile_prompt({"edits": [edit("lighting", light="neon")]})
    assert compile_prompt({"edits": [edit("lighting", **fields)]}) == bare
    assert compile_prompt({"edits": [edit("lighting", **{**fields, "direction": ""})]}) == bare


def test_a_request_is_left_as_it_was() -> None:
    request = {"edits": [edit("hair", style="bob")], "text": " \u201ca\u201d ", "subject": "person"}
    before = json.dumps(request)
    compile_prompt(request)
    assert json.dumps(request) == before


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["edits", "text", "subject", "masked", "category", "fields", "hair", "style"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_anything_is_either_read_or_refused(request: object) -> None:
    for function in (parse_request, compile_prompt, sees_whole_photo):
        with contextlib.suppress(InvalidOptions):
            function(request)
