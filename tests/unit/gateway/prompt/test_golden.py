"""`python -m tests.unit.gateway.prompt.golden_files` writes the files anew."""

import pytest

from gateway.prompt import compile_prompt, options
from tests.unit.gateway.prompt.golden_files import (
    OPTIONS,
    option_lines,
    option_requests,
    sentence_cases,
)


def test_every_option_compiles_to_its_golden_prompt() -> None:
    assert option_lines() == OPTIONS.read_text(encoding="utf-8")


def test_the_golden_file_holds_every_option_and_every_field() -> None:
    held = {name.partition("=")[0::2] for name, _ in option_requests()}
    for category in options()["categories"]:
        for field in category["fields"]:
            name = f"{category['id']}.{field['id']}"
            assert name in {key for key, _ in held}
            assert {(name, option["id"]) for option in field["options"]} <= held
    assert len(held) > 130


def test_no_two_options_of_a_field_compile_to_the_same_prompt() -> None:
    """But for how far a picture is expanded, which the page does by padding."""
    prompts: dict[tuple[str, str], str] = {}
    for name, request in option_requests():
        field = name.partition("=")[0]
        if field == "expand.amount":
            continue
        prompt = compile_prompt(request)["prompt"]
        assert prompts.setdefault((field, prompt), name) == name


@pytest.mark.parametrize("case", sentence_cases(), ids=lambda case: str(case["request"])[:60])
def test_what_a_person_would_ask_for_gets_its_golden_answer(
    case: dict[str, dict[str, str]],
) -> None:
    assert compile_prompt(case["request"]) == case["answer"]
