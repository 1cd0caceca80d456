"""What a hook says: names as the status has them, links in place of pictures, never too large."""

import json
from typing import Any

import pytest

from gateway.hooks.message import MOST_BYTES, message_of
from gateway.job import RAW, Job, JobState
from tests.jobs import NOW, make_job

RESULT = {"key": "results/a/1-0.png", "filename": "a.png", "width": 4, "height": 3, "sha256": "0"}


def ended(**values: Any) -> Job:
    return make_job(**{"state": JobState.SUCCEEDED, "finished_at": NOW + 3, **values})


def test_an_edit_is_told_with_the_links_to_its_picture() -> None:
    job = ended(result_key=RESULT["key"], results=[RESULT], request_id="mine", width=4, height=3)
    told = json.loads(message_of(job, "https://edit.example"))
    assert (told["type"], told["timestamp"][:19]) == ("job.succeeded", "2027-01-15T08:00:00")
    data = told["data"]
    assert (data["job_id"], data["request_id"], data["status"]) == (job.id, "mine", "succeeded")
    assert (
        data["result_url"] == data["imageUrl"] == f"https://edit.example/api/result/{RESULT['key']}"
    )
    assert data["results"][0]["url"] == data["result_url"]
    assert data["error"] is None


def test_a_failure_is_told_with_its_code() -> None:
    job = ended(
        state=JobState.FAILED,
        error_code="worker_lost",
        error_message="x" * 9999,
        error_retryable=True,
    )
    told = json.loads(message_of(job, ""))
    assert told["type"] == "job.failed"
    assert told["data"]["error"] == {
        "code": "worker_lost",
        "message": "x" * 1000,
        "retryable": True,
    }


def test_a_job_of_runpods_api_is_told_in_runpods_form() -> None:
    job = ended(kind=RAW, started_at=NOW + 1)
    assert json.loads(message_of(job, "", {"text": "\ud800"})) == {
        "id": job.id, "status": "COMPLETED", "delayTime": 1, "executionTime": 2,
        "output": {"text": "\ud800"},
    }  # fmt: skip


@pytest.mark.parametrize(
    "job", [ended(results=[RESULT] * 100), ended(kind=RAW)], ids=["edit", "raw"]
)
def test_it_stays_under_20_kb(job: Job) -> None:
    data = message_of(job, "https://edit.example", "x" * 50_000)
    assert len(data) < MOST_BYTES
    assert job.id in data.decode()
