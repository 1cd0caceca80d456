import base64
import hashlib
import json
from typing import Any

import pytest

from gateway.runpod.redaction import Redactor, picture_note

REDACTOR = Redactor(["rpa_SECRET", ""])
PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 60
JPEG_TEXT = base64.b64encode(b"\xff\xd8\xff" + b"y" * 90).decode()


@pytest.mark.parametrize(
    "text",
    [
        "the key is rpa_SECRET, they say",
        "Authorization: Bearer rpa_SECRET",
        "https://r2.example/x.png?X-Amz-Credential=rpa_SECRET&X-Amz-Signature=rpa_SECRET",
        "https://edit.example/api/runpod/webhook/rpa_SECRET",
    ],
)
def test_a_secret_is_shown_nowhere(text: str) -> None:
    shown = [REDACTOR.value({text: [text]}), REDACTOR.url(text), REDACTOR.body(text.encode())]
    assert "rpa_SECRET" not in json.dumps(shown)


def test_signatures_and_hook_tokens_are_left_out_and_the_rest_stays() -> None:
    url = "https://b.example/k.png?X-Amz-Expires=60&X-Amz-Signature=0a1b2c&x=1"
    assert REDACTOR.url(url) == (
        "https://b.example/k.png?X-Amz-Expires=60&X-Amz-Signature=[redacted]&x=1"
    )
    hook = "https://e.example/api/runpod/webhook/AbC-123_x"
    assert REDACTOR.url(hook) == "https://e.example/api/runpod/webhook/[redacted]"


@pytest.mark.parametrize("key", ["accessSecret", "accessId", "comfy_org_api_key"])
def test_the_values_of_secret_keys_are_left_out(key: str) -> None:
    assert REDACTOR.value({"s3Config": {key: "abc", "bucketName": "b"}}) == {
        "s3Config": {key: "[redacted]", "bucketName": "b"}
    }


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode(PNG).decode(),
        "data:image/png;base64," + base64.b64encode(PNG).decode(),
        base64.encodebytes(PNG).decode(),
    ],
)
def test_a_picture_becomes_its_size_and_hash(text: str) -> None:
    digest = hashlib.sha256(PNG).hexdigest()
    assert picture_note(text) == f"[{len(PNG)} bytes, sha256 {digest}]"


def test_words_stay_words() -> None:
    prompt = "Replace the background with a quiet beach at sunset and keep the person as she is"
    assert REDACTOR.value({"prompt": prompt, "n": 3, "none": None}) == {
        "prompt": prompt, "n": 3, "none": None,
    }  # fmt: skip


def test_a_picture_in_a_page_is_no_more_than_its_length() -> None:
    shown = REDACTOR.body(f"<img src='data:image/jpeg;base64,{JPEG_TEXT}'>".encode())
    assert JPEG_TEXT[:50] not in shown
    assert "characters of base64" in shown


@pytest.mark.parametrize(
    "body", [b"", b"\xff\x00", b"[" * 50_000, b"x" * 3_000_000, b'"' + b"A b" * 400_000 + b'"']
)
def test_any_body_is_shown_within_bounds(body: bytes) -> None:
    assert len(json.dumps(REDACTOR.body(body))) < 10_000


def test_what_is_deep_or_long_is_cut_off() -> None:
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    shown = REDACTOR.value({"deep": deep, "long": list(range(5000)), "odd": "\ud800"})
    assert "nested deeper" in json.dumps(shown["deep"])
    assert shown["long"][-1] == "[4800 more]"
    shown["odd"].encode()
