"""Reads a picture as the edge API in service does, which must not need a change."""

import base64
import urllib.request
from typing import Any


def read_picture(output: dict[str, Any]) -> bytes:
    """From `output` of a completed job. Raises LookupError when there is none."""
    for key in ("image_base64", "image"):
        if text := output.get(key):
            return base64.b64decode(text)
    for url in (
        *(output.get(key) for key in ("url", "image_url", "result_url")),
        *output["images"],
    ):
        if url:
            with urllib.request.urlopen(url) as answer:
                return bytes(answer.read())
    raise LookupError("the answer holds no picture")
