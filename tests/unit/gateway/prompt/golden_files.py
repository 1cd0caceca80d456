"""What the golden files beside this hold.

`python -m tests.unit.gateway.prompt.golden_files` writes them anew, for a reviewer to read.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.prompt import compile_prompt, options

FOLDER = Path(__file__).with_name("golden")
OPTIONS = FOLDER / "options.txt"
SENTENCES = FOLDER / "sentences.json"

_TEXTS = {"old": "SALE 50%", "new": "OPEN", "name": "red car", "caption": "two dogs on a beach"}


def option_requests() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every option and every text by itself, with the first option of what else is required."""
    for category in options()["categories"]:
        needed = {
            field["id"]: field["options"][0]["id"]
            for field in category["fields"]
            if field["required"]
        }
        for field in category["fields"]:
            values = [option["id"] for option in field["options"]] or [_TEXTS[field["id"]]]
            for value in values:
                fields = _sensible(category["id"], field["id"], {**needed, field["id"]: value})
                yield (
                    f"{category['id']}.{field['id']}={value}",
                    {
                        "edits": [{"category": category["id"], "fields": fields}],
                        "subject": "product" if category["id"] == "product" else "person",
                    },
                )


def _sensible(category: str, field: str, fields: dict[str, str]) -> dict[str, str]:
    """What a person who fills in this field has filled in as well."""
    if category == "remove" and field == "name":
        return {**fields, "thing": "painted"}
    if category != "text":
        return fields
    by_field = {"place": "add", "colour": "colour", "font": "font"}
    fields = {**fields, "action": by_field.get(field, fields["action"])}
    return {"old": "SALE", "new": "OPEN", "colour": "red", "font": "serif", **fields}


def option_lines() -> str:
    return "".join(
        f"{name}\n    {compile_prompt(request)['prompt']}\n" for name, request in option_requests()
    )


def sentence_cases() -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads(SENTENCES.read_text(encoding="utf-8"))
    return cases


def main() -> None:
    OPTIONS.write_text(option_lines(), encoding="utf-8")
    cases = [
        {"request": case["request"], "answer": compile_prompt(case["request"])}
        for case in sentence_cases()
    ]
    SENTENCES.write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
