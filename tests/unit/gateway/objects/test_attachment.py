"""A download is named as the photo was, and no name leaves its header."""

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.objects.attachment import attachment


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("beach.png", 'attachment; filename="beach.png"'),
        ("../../etc/passwd", 'attachment; filename="passwd"'),
        ("", 'attachment; filename="picture"'),
        ("a\r\nset-cookie: x.png", 'attachment; filename="a__set-cookie_ x.png"'),
        ("ทะเล.png", "attachment; filename=\"____.png\"; "
         "filename*=UTF-8''%E0%B8%97%E0%B8%B0%E0%B9%80%E0%B8%A5.png"),
    ],
)  # fmt: skip
def test_a_name_becomes_its_header(name: str, header: str) -> None:
    assert attachment(name) == header


@given(st.text())
def test_no_name_breaks_the_header(name: str) -> None:
    header = attachment(name)
    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2
    assert "/" not in unquote(header.partition("''")[2])
