import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.job import Fault
from gateway.runpod.report import (
    Cancelled,
    Done,
    Failed,
    Lost,
    Waiting,
    Working,
    report_of,
)

ERRORS = Path(__file__).resolve().parents[4] / "docs" / "errors.md"


def answer(status: Any, **more: Any) -> dict[str, Any]:
    return {"id": "a-u1", "status": status, **more}


@pytest.mark.parametrize("status", ["IN_QUEUE", "SOMETHING_NEW", None, 7, ["COMPLETED"]])
def test_what_waits_or_is_not_known_waits(status: Any) -> None:
    assert report_of(answer(status, input={"prompt": "x"}, delayTime=3)) == Waiting()


@pytest.mark.parametrize("status", ["IN_PROGRESS", "RUNNING"])
def test_progress_is_read_out_of_output(status: str) -> None:
    progress = {"phase": "execute", "percent": 40, "step": 2, "steps": 4}
    assert report_of(answer(status, output=progress)) == Working("execute", 40)


@pytest.mark.parametrize(
    ("output", "seen"),
    [
        (None, Working()),
        ("40 %", Working()),
        ([1], Working()),
        ({"phase": 3, "percent": "4"}, Working()),
        ({"percent": 250}, Working(None, 99)),
        ({"percent": 40.5}, Working()),
        ({"percent": -4}, Working(None, 0)),
        ({"percent": True}, Working()),
        ({"percent": float("nan")}, Working()),
        ({"percent": 1e300}, Working()),
        ({"phase": "x\x00"}, Working()),
    ],
)
def test_odd_progress_is_no_fault(output: Any, seen: Working) -> None:
    assert report_of(answer("IN_PROGRESS", output=output)) == seen


def test_a_completed_job_gives_its_output() -> None:
    output = {"ok": True, "image_base64": "AAAA"}
    assert report_of(answer("COMPLETED", output=output, delayTime=31618)) == Done(output)
    assert report_of(answer("COMPLETED", output=[1])) == Done([1])


@pytest.mark.parametrize("more", [{}, {"output": None}, {"output": {}}])
def test_a_completed_job_may_have_no_output(more: dict[str, Any]) -> None:
    assert report_of(answer("COMPLETED", executionTime=5, **more)) == Done(None)


@pytest.mark.parametrize("output", [{"error": {"a": 1}}, {"ok": False, "code": "no_output"}])
def test_a_failure_that_runpod_calls_completed_is_one(output: dict[str, Any]) -> None:
    assert isinstance(report_of(answer("COMPLETED", output=output)), Failed)


@pytest.mark.parametrize("retryable", [True, False])
def test_our_worker_says_itself_whether_to_try_again(retryable: bool) -> None:
    output = {"ok": False, "code": "node_failed", "message": "it broke", "retryable": retryable}
    report = report_of(answer("FAILED", error="node_failed: it broke", output=output))
    assert report == Failed(Fault("node_failed", "it broke", retryable))


def test_without_an_output_the_code_decides_as_the_table_says() -> None:
    of_worker = ERRORS.read_text().partition("## Of the gateway")[0]
    table = re.findall(r"^\| `(\w+)` \| .+ \| (yes|no) \|$", of_worker, re.MULTILINE)
    assert len(table) > 15
    for code, again in table:
        report = report_of(answer("FAILED", error=f"{code}: it broke"))
        assert report == Failed(Fault(code, "it broke", again == "yes"))


def test_of_an_exception_only_the_message_is_kept() -> None:
    error = {
        "error_type": "<class 'RuntimeError'>",
        "error_message": "CUDA error in /opt/handler/runner.py",
        "error_traceback": 'Traceback (most recent call last):\n  File "/opt/secret.py"',
        "hostname": "host-1", "worker_id": "w-1",
    }  # fmt: skip
    report = report_of(answer("FAILED", error=json.dumps(error)))
    assert report == Failed(
        Fault("worker_error", "the worker raised RuntimeError: CUDA error in .../runner.py", True)
    )


@pytest.mark.parametrize(
    "error",
    [None, "", {}, {"a": 1}, [1], 7, "{}", '{"trace": "Traceback ..."}', "boom", "Note: boom",
     "note: boom", "boom\nTraceback (most recent call last):\n  File x", '{"error_message": 3}'],
)  # fmt: skip
def test_any_other_error_is_a_failure_that_may_pass(error: Any) -> None:
    report = report_of(answer("FAILED", error=error))
    assert isinstance(report, Failed)
    assert (report.fault.code, report.fault.retryable) == ("worker_error", True)
    assert report.fault.message
    assert "Traceback" not in report.fault.message


def test_a_job_that_timed_out_is_lost_and_a_cancelled_one_is_cancelled() -> None:
    assert isinstance(report_of(answer("TIMED_OUT", error="job timed out")), Lost)
    assert report_of(answer("CANCELLED")) == Cancelled()


def test_a_message_is_short_and_can_be_written_anywhere() -> None:
    error = "a\x00b\ud800c https://x.example/a/b /opt/handler/x.py " + "y" * 9000
    report = report_of(answer("FAILED", error=error))
    assert isinstance(report, Failed)
    assert report.fault.message.startswith("a b c https://x.example/a/b .../x.py yyy")
    assert len(report.fault.message) < 2010


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
STATES = ["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT", "RUNNING"]


@given(
    status=st.sampled_from(STATES),
    error=JSON,
    output=JSON | st.dictionaries(st.sampled_from(["code", "message", "ok", "phase"]), JSON),
)
def test_no_answer_raises(status: str, error: Any, output: Any) -> None:
    report = report_of(answer(status, error=error, output=output))
    if isinstance(report, Failed):
        assert report.fault.message
        report.fault.message.encode()
