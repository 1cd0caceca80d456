"""`python -m gateway prompt`: what the page does with options and words, on a terminal."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from gateway.errors import InvalidOptions
from gateway.prompt.compiler import compile_prompt
from gateway.prompt.table import Category, Field, categories

_MOST_BYTES = 1_000_000
_EXAMPLE = (
    'example: {"edits": [{"category": "outfit_colour", "fields": {"colour": "red"}}], '
    '"text": "", "subject": "person", "masked": false}'
)


def main(argv: Sequence[str] | None = None) -> int:
    """0 and the compiled prompt as JSON; 1 with the error's code and message on stderr; argparse
    exits with 2 when it was called wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m gateway prompt",
        description="Compile options and words to the English prompt that the model is sent.",
        epilog=_EXAMPLE,
    )
    parser.add_argument(
        "request", nargs="?", default="-", metavar="FILE",
        help="JSON {edits, text, subject, masked}, as POST /api/prompt/compile; default: stdin",
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="list what can be chosen, and end")
    parser.add_argument(
        "--text", action="store_true", help="print the prompt alone; warnings go to stderr"
    )
    arguments = parser.parse_args(argv)
    if arguments.list:
        sys.stdout.write(_listing())
        return 0
    try:
        result = compile_prompt(_read(arguments.request))
    except InvalidOptions as error:
        sys.stderr.write(f"{error.code}: {error.message}\n")
        return 1
    if not arguments.text:
        sys.stdout.write(json.dumps(result, ensure_ascii=False, indent=2) + "\n")
        return 0
    sys.stdout.write(result["prompt"] + "\n")
    for one in result["warnings"]:
        sys.stderr.write(f"{one['code']}: {one['message']['en']}\n")
    return 0


def _read(path: str) -> object:
    try:
        if path == "-":
            raw = sys.stdin.buffer.read(_MOST_BYTES + 1)
        else:
            with Path(path).open("rb") as file:
                raw = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise _unreadable(f"{path} can't be read: {error}") from error
    if len(raw) > _MOST_BYTES:
        raise _unreadable(f"the request has more than {_MOST_BYTES} bytes", reason="too_long")
    try:
        value: object = json.loads(raw.decode("utf-8-sig"))
    except RecursionError:
        raise _unreadable("the request is nested too deep") from None
    except ValueError as error:
        raise _unreadable(f"the request is not JSON: {error}") from error
    return value


def _unreadable(message: str, reason: str = "not_json") -> InvalidOptions:
    return InvalidOptions(message, reason=reason, where="")


def _listing() -> str:
    return "\n".join(_category_lines(category) for category in categories().values())


def _category_lines(category: Category) -> str:
    fields = "".join(_field_lines(field) for field in category.fields.values())
    return f"{category.id}: {category.label.en} / {category.label.th}\n{fields}"


def _field_lines(field: Field) -> str:
    kind = "a text" if field.kind == "text" else "one of"
    needed = ", required" if field.required else ""
    options = "".join(
        f"    {option.id}: {option.label.en} / {option.label.th}\n"
        for option in field.options.values()
    )
    return f"  {field.id} ({kind}{needed}): {field.label.en} / {field.label.th}\n{options}"


if __name__ == "__main__":
    sys.exit(main())
