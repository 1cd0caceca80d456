import errno
import json
import logging
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from handler.logs import configure, get_logger, make_scrubber

SECRET = "s3cr3t/+key"
PICTURE = "iVBORw0KGgoAAAANSUhEUg" * 10
SIGNED = (
    "https://acc.r2.cloudflarestorage.com/pictures/a.png?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=AKIDENTIFIER%2F20261122%2Fauto%2Fs3%2Faws4_request"
    "&X-Amz-Expires=604800&X-Amz-Security-Token=tokentoken&X-Amz-Signature=5ca1ab1e"
)

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


@pytest.fixture
def lines(capfd: pytest.CaptureFixture[str]) -> Lines:
    """Everything that was written since the last call: each line must be strict JSON."""
    configure("DEBUG", [SECRET])

    def read() -> list[dict[str, Any]]:
        out, err = capfd.readouterr()
        assert err == ""
        return [json.loads(line, parse_constant=pytest.fail) for line in out.splitlines()]

    return read


def logged(lines: Lines, event: str = "x", **values: Any) -> str:
    """The one line, as text, that logging `values` writes."""
    get_logger().info(event, **values)
    (line,) = lines()
    return json.dumps(line, ensure_ascii=False)


def test_a_line_is_an_object_with_level_event_and_time(lines: Lines) -> None:
    get_logger().warning("job failed", code="no_output", count=3, ratio=0.5, nothing=None, ok=True)
    (line,) = lines()
    ts = datetime.fromisoformat(line.pop("ts"))
    assert abs(datetime.now(UTC) - ts) < timedelta(minutes=1)
    assert line == {
        "level": "warning",
        "event": "job failed",
        "code": "no_output",
        "count": 3,
        "ratio": 0.5,
        "nothing": None,
        "ok": True,
    }


def test_a_line_has_the_context_of_its_job(lines: Lines) -> None:
    structlog.contextvars.bind_contextvars(job_id="j-1", request_id="r-1")
    get_logger().info("job done")
    (line,) = lines()
    assert (line["job_id"], line["request_id"]) == ("j-1", "r-1")


def test_each_event_is_one_line_whatever_it_holds(lines: Lines) -> None:
    get_logger().info("two\nlines", text="a\r\nb\u2028c")
    assert [line["text"] for line in lines()] == ["a\r\nb\u2028c"]


def test_a_line_of_the_standard_library_has_the_same_form(lines: Lines) -> None:
    structlog.contextvars.bind_contextvars(job_id="j-1")
    logging.getLogger("botocore").warning("slow %s", "answer")
    (line,) = lines()
    assert line.pop("ts")
    assert line == {"level": "warning", "event": "slow answer", "job_id": "j-1"}


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), BrokenPipeError()])
def test_a_line_that_can_not_be_written_ends_no_work(
    monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    """Its disk is full, or its reader gone."""

    def write(_descriptor: int, _data: bytes) -> int:
        raise error

    configure("INFO", [])
    monkeypatch.setattr(os, "write", write)
    get_logger().info("hello")
    logging.getLogger().warning("hello")


def test_below_the_level_nothing_is_written(lines: Lines) -> None:
    configure("WARNING", [])
    get_logger().info("quiet")
    get_logger().warning("loud")
    assert [line["event"] for line in lines()] == ["loud"]


def test_of_the_standard_library_only_warnings_are_written(lines: Lines) -> None:
    logging.getLogger("aiohttp.access").info("GET /history")
    assert lines() == []


def test_to_configure_twice_does_not_write_twice(lines: Lines) -> None:
    configure("INFO", [SECRET])
    logging.getLogger("x").warning("once")
    get_logger().info("once")
    assert len(lines()) == 2


def as_event(value: str) -> dict[str, Any]:
    return {"event": f"sent {value} there"}


def as_value(value: str) -> dict[str, Any]:
    return {"value": value}


def as_nested(value: str) -> dict[str, Any]:
    return {"details": {"list": [{"deep": (value, {"x": {value}})}]}}


def as_key(value: str) -> dict[str, Any]:
    return {"details": {value: 1, (value, "x"): 2}}


def as_exception(value: str) -> dict[str, Any]:
    return {"error": ValueError(f"bad {value}")}


@pytest.mark.parametrize("place", [as_event, as_value, as_nested, as_key, as_exception])
@pytest.mark.parametrize(
    ("value", "never"),
    [
        (SECRET, [SECRET]),
        (f"https://u:{SECRET}@host/", [SECRET]),
        (SIGNED, ["AKIDENTIFIER", "tokentoken", "5ca1ab1e"]),
        ("https://x/?AWSAccessKeyId=AKIDENTIFIER&Signature=5ca1ab1e%3D", ["AKIDE", "5ca1ab1e"]),
        ("Authorization: Bearer rpa_0123456789ABCDEF", ["rpa_0123456789ABCDEF"]),
        ("authorization: basic dXNlcjpwYXNzd29yZA==", ["dXNlcjpwYXNzd29yZA"]),
        (PICTURE, [PICTURE[:60]]),
        (f"data:image/png;base64,{PICTURE}==", [PICTURE[:60]]),
    ],
    ids=["secret", "in url", "presigned", "presigned v2", "bearer", "basic", "base64", "data uri"],
)
def test_what_must_never_be_logged_is_nowhere_in_a_line(
    lines: Lines, place: Callable[[str], dict[str, Any]], value: str, never: list[str]
) -> None:
    text = logged(lines, **place(value))
    assert not [word for word in never if word in text]


def test_what_may_be_logged_of_a_signed_address_stays(lines: Lines) -> None:
    text = logged(lines, url=SIGNED)
    assert "acc.r2.cloudflarestorage.com/pictures/a.png" in text
    assert "X-Amz-Expires=604800" in text
    assert "X-Amz-Signature=[redacted]" in text


def test_of_picture_data_the_length_is_logged(lines: Lines) -> None:
    assert "[220 characters of base64]" in logged(lines, image=PICTURE)


@pytest.mark.parametrize(
    "text", ["a" * 119, "0123456789abcdef" * 4, "/workspace/ComfyUI/models/unet/a_b.safetensors"]
)
def test_words_digests_and_paths_are_no_picture_data(lines: Lines, text: str) -> None:
    assert text in logged(lines, text=text)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_of_bytes_the_length_is_logged(lines: Lines, kind: Callable[[bytes], Any]) -> None:
    text = logged(lines, data=kind(b"PNG data"), details={"data": kind(b"PNG data")})
    assert "PNG" not in text
    assert text.count("[8 bytes]") == 2


def test_a_value_of_another_kind_is_logged_as_text(lines: Lines) -> None:
    assert "models/a.bin" in logged(lines, path=Path("models/a.bin"))


def test_numbers_that_json_lacks_are_logged_as_text(lines: Lines) -> None:
    get_logger().info("x", value=float("nan"), more=[float("inf")])
    (line,) = lines()
    assert (line["value"], line["more"]) == ("nan", ["inf"])


def fail() -> None:
    cause = RuntimeError(f"PUT {SIGNED} with Bearer {'t0ken' * 4}")
    raise ValueError(f"bad {SECRET} and {PICTURE}") from cause


NEVER = (SECRET, "5ca1ab1e", "AKIDENTIFIER", "t0ken" * 4, PICTURE[:60])


@pytest.mark.parametrize("logger", [get_logger, lambda: logging.getLogger("library")])
def test_a_traceback_is_logged_without_secrets(lines: Lines, logger: Callable[[], Any]) -> None:
    try:
        fail()
    except ValueError:
        logger().exception("unforeseen fault")
    (line,) = lines()
    text = json.dumps(line)
    assert line["level"] == "error"
    assert line["event"] == "unforeseen fault"
    assert "in fail" in line["exception"]
    assert "RuntimeError" in line["exception"]
    assert not [word for word in NEVER if word in text]


def test_the_standard_library_s_messages_arguments_and_stacks_are_cleaned(lines: Lines) -> None:
    logging.getLogger("x").warning("%s and %s", SECRET, {"url": SIGNED}, stack_info=True)
    (line,) = lines()
    assert not [word for word in NEVER if word in json.dumps(line)]


def test_the_context_of_a_job_is_cleaned(lines: Lines) -> None:
    structlog.contextvars.bind_contextvars(job_id=f"j-{SECRET}")
    assert SECRET not in logged(lines)


def test_a_secret_inside_a_longer_one_leaves_nothing_of_it() -> None:
    scrub = make_scrubber(["longer-secret", "secret"])
    assert scrub("a longer-secret b secret c") == "a [redacted] b [redacted] c"


def test_cleaning_leaves_the_value_alone() -> None:
    value = {"list": [SECRET]}
    make_scrubber([SECRET])(value)
    assert value == {"list": [SECRET]}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(),
    lambda children: (
        st.lists(children, max_size=3)
        | st.tuples(children)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.tuples(st.text()), children)
    ),
    max_leaves=8,
)


@settings(deadline=None)  # a busy machine is no fault
@given(VALUES, st.text(max_size=5))
def test_any_value_is_cleaned_into_json_without_the_secret(value: Any, around: str) -> None:
    text = f"{around}{SECRET}{around}"
    cleaned = make_scrubber([SECRET])({text: [value, text]})
    assert SECRET not in json.dumps(cleaned, allow_nan=False, ensure_ascii=False)
