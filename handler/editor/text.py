"""What the editor does to a widget's text when it exports a graph."""

import random
import re
from collections.abc import Callable
from datetime import datetime

from handler.errors import InvalidWorkflow

# Given node and widget, the widget's value as a text; None if there is no such widget.
LookUp = Callable[[str, str], str | None]
Choose = Callable[[list[str]], str]

_COMMENT_START = re.compile(r"/[*/]")
_LINE_END = re.compile(r"[\n\r\u2028\u2029]")
_ESCAPED = re.compile(r"\\([{}|])")
_PATTERN = re.compile(r"%([^%]+)%")
_DATE_PART = re.compile(r"dd?|MM?|hh?|mm?|ss?|yyy?y?")
_NOT_IN_FILE_NAMES = re.compile(r'[/?<>\\:*|"\x00-\x1F\x7F]')
_MOST_BRACES = 50


def resolve_dynamic_prompt(text: str, choose: Choose = random.choice) -> str:
    """Comments go, and one of each `{a|b}` stays. Raises InvalidWorkflow."""
    return _resolve(text, choose, _MOST_BRACES)


def _resolve(text: str, choose: Choose, levels: int) -> str:
    if not levels:
        raise InvalidWorkflow("input.workflow has a prompt with braces nested too deeply")
    text = _without_comments(text)
    result: list[str] = []
    place = 0
    while place < len(text):
        if text[place] == "{":
            options, place = _options(text, place + 1)
            result.append(_resolve(choose(options), choose, levels - 1))
            continue
        size = 2 if text[place] == "\\" else 1
        result.append(text[place : place + size])
        place += size
    return _ESCAPED.sub(r"\1", "".join(result))


def _without_comments(text: str) -> str:
    """Not one expression: its time would grow with the square of many `/*` that nothing ends."""
    kept: list[str] = []
    last_end = text.rfind("*/")
    start = search = 0
    while found := _COMMENT_START.search(text, search):
        if found[0] == "//":
            line_end = _LINE_END.search(text, found.end())
            end = line_end.start() if line_end else len(text)
        elif found.end() <= last_end:
            end = text.index("*/", found.end()) + 2
        else:
            search = found.end() - 1
            continue
        kept.append(text[start : found.start()])
        start = search = end
    return "".join(kept) + text[start:]


def _options(text: str, place: int) -> tuple[list[str], int]:
    """The choices of a block that starts at `place`, and where the text goes on."""
    options: list[str] = []
    start, depth = place, 0
    while place < len(text):
        char = text[place]
        if not depth and char in "|}":
            options.append(text[start:place])
            start = place + 1
            if char == "}":
                return options, start
        depth += {"{": 1, "}": -1}.get(char, 0)
        place += 2 if char == "\\" else 1
    return [*options, text[start:]], len(text)


def replace_patterns(text: str, look_up: LookUp, now: datetime) -> str:
    """`%date:yyyy-MM-dd%` and `%Node.widget%` in a file name; other patterns stay."""

    def replacement(match: re.Match[str]) -> str:
        parts = match[1].split(".")
        if len(parts) != 2:
            is_date = parts[0].startswith("date:")
            return _format_date(parts[0][5:], now) if is_date else match[0]
        value = look_up(parts[0], parts[1])
        return match[0] if value is None else _NOT_IN_FILE_NAMES.sub("_", value)

    return _PATTERN.sub(replacement, text)


def _format_date(text: str, now: datetime) -> str:
    parts = {"d": now.day, "M": now.month, "h": now.hour, "m": now.minute, "s": now.second}

    def replacement(match: re.Match[str]) -> str:
        letters = match[0]
        if letters[0] in parts:
            return str(parts[letters[0]]).zfill(len(letters))
        return {"yy": str(now.year)[2:], "yyyy": str(now.year)}.get(letters, letters)

    return _DATE_PART.sub(replacement, text)
