import tracemalloc
from typing import Any, get_type_hints

import pytest
from typing_extensions import is_typeddict

from handler.contract.check import check_input
from handler.contract.input_types import PROMPT_KEYS, Delivery, ImageEntry, JobInput, OutputOptions
from handler.errors import InvalidImage, InvalidInput

BASE = {"workflow": {"1": {}}}
ENTRY = {"name": "a.png", "image": "aGk="}


def message(job_input: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        check_input(BASE | job_input)
    return caught.value.message


@pytest.mark.parametrize(
    ("key", "value"),
    [("prompt", ""), ("prompt", 3), ("prompt", "x" * 10_001), ("ratio", "2:1"), ("ratio", 1),
     ("ratio", []), ("seed", -1), ("seed", 2**64), ("seed", 1.0), ("seed", True), ("steps", 0),
     ("steps", "4"), ("cfg", -1), ("cfg", float("nan")), ("lora_strength", 9),
     ("negative_prompt", 1)],
)  # fmt: skip
def test_a_wrong_value_is_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=f"input.{key}"):
        check_input({"prompt": "x", key: value})


@pytest.mark.parametrize("key", ["prompt", "negative_prompt"])
def test_a_text_that_has_no_utf8_is_refused(key: str) -> None:
    with pytest.raises(InvalidInput, match=f"input.{key} holds half a character"):
        check_input({"prompt": "x", "cfg": 2, key: "a\ud800"})


def test_what_is_good_comes_as_the_types_say() -> None:
    job_input = {"prompt": "x", "output": {"delivery": "bucket"}, "images": [ENTRY], "seed": None}
    assert check_input(job_input) == job_input
    delivery = (check_input(job_input)["output"] or {})["delivery"]
    assert isinstance(delivery, Delivery)


def test_a_number_of_seconds_may_be_whole() -> None:
    assert check_input(BASE | {"timeout_s": 5})["timeout_s"] == 5.0


@pytest.mark.parametrize("where", ["input", "input.output"])
def test_a_key_that_has_no_utf8_is_an_unknown_key(where: str) -> None:
    wrong: dict[str, Any] = {"\ud800": 1}
    told = message(wrong if where == "input" else {"output": wrong})
    assert told.startswith(f"{where} has an unknown key '\\ud800'; known keys: ")


def test_an_unknown_key_is_told_before_a_wrong_value() -> None:
    """It may be what the other key lacks."""
    assert "unknown key 'stps'" in message({"steps": 0, "stps": 4})
    assert "unknown key 'nam'" in message({"images": [{"nam": "a.png", "image": "aGk="}]})


def test_of_two_wrong_values_the_first_of_the_published_keys_is_told() -> None:
    assert message({"timeout_s": -1, "request_id": 7}).startswith("input.request_id ")


def test_a_picture_that_has_no_utf8_is_no_base64() -> None:
    with pytest.raises(InvalidImage) as caught:
        check_input(BASE | {"images": [ENTRY, {"name": "b.png", "image": "aGk=\ud800"}]})
    assert caught.value.message == (
        "input.images[1] ('b.png'): is not base64: string argument should contain only ASCII "
        "characters"
    )


@pytest.mark.parametrize(
    "job_input",
    [
        dict.fromkeys(map(str, range(100_000))),
        {"output": dict.fromkeys(map(str, range(100_000)))},
        {"images": [7] * 100_000},
        {"images": [{"x": 1}] * 100_000},
    ],
    ids=["keys", "options", "images", "entries"],
)
def test_of_many_faults_only_the_first_costs_memory(job_input: Any) -> None:
    tracemalloc.start()
    try:
        with pytest.raises((InvalidInput, InvalidImage)):
            check_input(job_input)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000


def test_a_secret_is_not_repeated_by_what_caused_the_fault() -> None:
    with pytest.raises(InvalidInput) as caught:
        check_input(BASE | {"comfy_org_api_key": ["secret-key"]})
    assert caught.value.message == "input.comfy_org_api_key must be a text"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize("kind", [JobInput, OutputOptions, ImageEntry])
def test_something_is_said_of_every_key(kind: Any) -> None:
    """An object is wrong in every place of another kind."""
    assert is_typeddict(kind)
    for key in get_type_hints(kind):
        wrong: dict[str, Any] = {key: object()}
        if kind is OutputOptions:
            job_input = BASE | {"output": wrong}
        elif kind is ImageEntry:
            job_input = BASE | {"images": [ENTRY | wrong]}
        else:
            job_input = ({"prompt": "x"} if key in PROMPT_KEYS else BASE) | wrong
        with pytest.raises(Exception, match=r"^input\.") as caught:
            check_input(job_input)
        assert caught.type.__module__ == "handler.errors"


@pytest.mark.parametrize("value", ["", "x", 7])
def test_a_job_of_both_modes_is_told_so_whatever_else_is_wrong(value: Any) -> None:
    told = message({"prompt": value, "seed": 1})
    assert told.startswith("input has a workflow and also prompt, seed, which count only without")
