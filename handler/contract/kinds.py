"""JSON's kinds of values in words, for messages."""

from typing import Any

_NAMES = {
    list: "a list",
    str: "a text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "null",
    dict: "an object",
}


def kind_of(value: Any) -> str:
    return _NAMES.get(type(value), type(value).__name__)
