"""What is said of a wrong value, for each kind of key of `input`."""

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from handler.contract.kinds import kind_of
from handler.errors import InvalidImage, InvalidInput, InvalidWorkflow, JobError

LONGEST_PROMPT = 10_000
# Linux file systems allow 255 bytes; names are never used as file names, yet nobody needs more.
LONGEST_NAME_BYTES = 255
NOT_IN_NAMES = r"/\\\x00-\x1f\x7f"
RESERVED_NAMES = (".", "..")
# The editor may write it after a picture's name (ComfyUI folder_paths.annotated_filepath).
FOLDER_NOTE = " [input]"
# JSON can hold it, as an escape; nothing can write it as UTF-8.
_LONE_SURROGATE = r"\ud800-\udfff"


class Says(NamedTuple):
    """Beside a type: the words that follow the name of the key, as they are or made of the value.
    Words that begin with a colon follow without a space."""

    words: str | Callable[[Any], str]
    error: type[JobError] = InvalidInput

    def of(self, value: Any) -> str:
        return self.words if isinstance(self.words, str) else self.words(value)


def one_of(choices: Iterable[str]) -> Says:
    return Says(lambda value: f"must be one of {', '.join(choices)}, not {value!r}")


def _workflow(value: Any) -> str:
    if value == {}:
        return "has no nodes"
    return f"must be an object of nodes in API format, not {kind_of(value)}"


def _picture_name(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        return "has no name"
    if re.search(f"[{NOT_IN_NAMES}{_LONE_SURROGATE}]", value) or value in RESERVED_NAMES:
        return f": the name {value!r} must be a plain file name, without a path"
    if value.endswith(FOLDER_NOTE):
        return (
            f": the name {value!r} must not end with {FOLDER_NOTE!r}, which a workflow may write "
            "after a name"
        )
    return f": the name is longer than {LONGEST_NAME_BYTES} bytes"


def _picture(value: Any) -> str:
    if isinstance(value, str) and value:
        return ": is not base64: string argument should contain only ASCII characters"
    return "has no picture in `image`: send base64 text or an address"


def _prompt(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        return "must be a text"
    if re.search(f"[{_LONE_SURROGATE}]", value):
        return "holds half a character: a surrogate without its other"
    return f"is longer than {LONGEST_PROMPT} characters"


WORKFLOW = Says(_workflow, InvalidWorkflow)
PICTURE_NAME = Says(_picture_name, InvalidImage)
PICTURE = Says(_picture, InvalidImage)
PROMPT = Says(_prompt)
