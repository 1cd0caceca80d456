"""What the log may show of a call to RunPod: everything but keys, tokens and picture data. Pure.

A picture becomes its size and SHA-256, so that it can still be told which one was sent.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

_REDACTED = "[redacted]"
_LONGEST_TEXT = 4_000
_LARGEST_PARSED_BYTES = 1_000_000
_MOST_ITEMS = 200
_DEEPEST = 40

_SECRET_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"}
)
# RunPod's s3Config, and the key that our worker hands to ComfyUI.
_SECRET_KEYS = frozenset(
    {"accessid", "accesssecret", "comfy_org_api_key", "api_key", "apikey", "authorization"}
)
_SIGNED_QUERY = re.compile(
    r"(?i)\b(X-Amz-(?:Signature|Credential|Security-Token)|Signature|AWSAccessKeyId|token|key)"
    r"=[^&\s\"'<>\\]+"
)
_HOOK_TOKEN = re.compile(r"(/webhook/)[A-Za-z0-9._~-]+")
_CREDENTIALS = re.compile(r"(?i)\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{8,}")
_DATA_URI = re.compile(r"data:[\w.+-]+/[\w.+-]+(?:;[\w.+=-]+)*;base64,")
_BASE64 = re.compile(r"[A-Za-z0-9+/_\r\n-]+={0,2}[\r\n]*")
_BASE64_RUN = re.compile(r"[A-Za-z0-9+/_-]{120,}={0,2}")
# Shorter than the smallest picture, as base64.
_SHORTEST_PICTURE = 64
# Nobody writes so much text without a full stop.
_SURELY_DATA = 512
_MAGIC = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"RIFF", b"GIF8")


class Redactor:
    """`secrets` are values that must never be shown, such as the API key."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = tuple(secret for secret in secrets if secret)

    def url(self, url: str) -> str:
        return self._text(url)

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        return {
            name: _REDACTED if name.lower() in _SECRET_HEADERS else self._text(value)
            for name, value in headers.items()
        }

    def value(self, value: Any, depth: int = 0) -> Any:
        """Of anything that JSON can hold."""
        match value:
            case str():
                return picture_note(value) or self._text(value)
            case Mapping() | list() | tuple() if depth == _DEEPEST:
                return "[nested deeper]"
            case Mapping():
                return self._mapping(value, depth + 1)
            case list() | tuple():
                shown = [self.value(item, depth + 1) for item in value[:_MOST_ITEMS]]
                left_out = len(value) - len(shown)
                return [*shown, f"[{left_out} more]"] if left_out else shown
            case None | bool() | int() | float():
                return value
            case _:
                return self._text(str(value))

    def body(self, body: bytes | bytearray, largest: int = _LARGEST_PARSED_BYTES) -> Any:
        """As JSON if it is some of at most `largest` bytes, else as text, cut off."""
        if len(body) <= largest:
            try:
                return self.value(json.loads(body))
            except (ValueError, RecursionError):
                return self._text(body.decode("utf-8", "replace"))
        digest = hashlib.sha256(body).hexdigest()
        start = self._text(body[:_LONGEST_TEXT].decode("utf-8", "replace"))
        return f"[{len(body)} bytes, sha256 {digest}] {start}"

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        for key, item in value.items():
            if len(shown) == _MOST_ITEMS:
                shown["..."] = f"[{len(value) - _MOST_ITEMS} more]"
                break
            is_secret = str(key).lower() in _SECRET_KEYS and item
            shown[self._text(str(key))] = _REDACTED if is_secret else self.value(item, depth)
        return shown

    def _text(self, text: str) -> str:
        length = len(text)
        # A secret across the cut would be shown in part.
        text = text[: 2 * _LONGEST_TEXT]
        for secret in self._secrets:
            text = text.replace(secret, _REDACTED)
        text = _HOOK_TOKEN.sub(rf"\1{_REDACTED}", text)
        text = _SIGNED_QUERY.sub(rf"\1={_REDACTED}", text)
        text = _CREDENTIALS.sub(rf"\1 {_REDACTED}", text)
        text = _BASE64_RUN.sub(lambda run: f"[{len(run[0])} characters of base64]", text)
        if length > _LONGEST_TEXT:
            text = f"{text[:_LONGEST_TEXT]}... ({length} characters)"
        # A lone surrogate from JSON can't be written.
        return text.encode("utf-8", "replace").decode()


def picture_note(text: str) -> str | None:
    """`[N bytes, sha256 HEX]` for a picture as base64 or data URI, or for any long base64."""
    prefix = _DATA_URI.match(text)
    start = prefix.end() if prefix else 0
    if len(text) - start < _SHORTEST_PICTURE or not _BASE64.fullmatch(text, start):
        return None
    try:
        data = base64.b64decode("".join(text[start:].split()).replace("-", "+").replace("_", "/"))
    except (ValueError, binascii.Error):
        return None
    if not (prefix or data.startswith(_MAGIC) or len(text) >= _SURELY_DATA):
        return None
    return f"[{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}]"
