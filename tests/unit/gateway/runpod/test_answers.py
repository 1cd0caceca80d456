from datetime import UTC, datetime

import pytest

from gateway.runpod.answers import error_of, retry_after_s
from gateway.runpod.errors import Unavailable

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "99999999999999"}, 120),
        ({"retry-after": "Tue, 24 Nov 2026 12:00:30 GMT"}, 30),
        ({"retry-after": "Tue, 24 Nov 2026 11:00:00 GMT"}, 0),
        ({"ratelimit": "limit=2000, remaining=0, reset=4"}, 4),
        ({"ratelimit": '"default";r=0;t=9'}, 9),
        ({"retry-after": "2", "ratelimit": '"default";r=0;t=9'}, 2),
        ({"ratelimit": "whenever"}, None),
    ],
)
def test_the_wait_asked_for_is_read_from_either_header(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after_s(headers, NOW) == seconds


@pytest.mark.parametrize("status", [100, 204, 408, 425, 500, 504, 520, 524, 599])
def test_what_proves_nothing_leaves_open_whether_the_job_was_taken(status: int) -> None:
    error = error_of(status, {}, "/run", NOW)
    assert isinstance(error, Unavailable)
    assert not error.not_taken
