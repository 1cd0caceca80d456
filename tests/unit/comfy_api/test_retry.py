from typing import Any

import pytest

from handler.comfy_api.retry import Again, Retries
from handler.errors import ComfyExited

DONE: dict[str, Any] = {"status": {"status_str": "success", "messages": []}}
INTERRUPTED = {"status": {"messages": [["execution_interrupted", {}]]}}


def failed(exception_type: str) -> dict[str, Any]:
    fault = {"exception_type": exception_type, "exception_message": "it is so"}
    return {"status": {"messages": [["execution_error", fault]]}}


def exited(*, was_stopped: bool = False) -> ComfyExited:
    error = ComfyExited("ComfyUI ended")
    error.was_stopped = was_stopped
    return error


@pytest.mark.parametrize("entry", [DONE, failed("ValueError"), {}, {"status": None}])
def test_an_end_of_the_prompts_own_is_final(entry: dict[str, Any]) -> None:
    assert Retries().after_end(entry) is None


def test_an_interruption_that_was_meant_for_another_counts_once() -> None:
    retries = Retries()
    assert retries.after_end(INTERRUPTED) is Again.AS_IT_IS
    assert retries.after_end(INTERRUPTED) is None


def test_where_memory_ran_out_it_is_freed_once() -> None:
    retries = Retries()
    assert retries.after_end(failed("torch.OutOfMemoryError")) is Again.WITH_MEMORY_FREED
    assert retries.after_end(failed("torch.OutOfMemoryError")) is None


def test_each_reason_counts_for_itself() -> None:
    retries = Retries()
    assert retries.after_end(INTERRUPTED)
    assert retries.after_end(failed("MemoryError"))
    assert retries.after_exit(exited(), had_begun=False)
    assert not retries.after_exit(exited(), had_begun=False)


def test_a_prompt_that_had_begun_when_comfyui_ended_may_be_why() -> None:
    assert Retries().after_exit(exited(), had_begun=True) is None


def test_a_restart_for_another_jobs_sake_counts_as_often_as_it_comes() -> None:
    retries = Retries()
    for _ in range(5):
        assert retries.after_exit(exited(was_stopped=True), had_begun=True) is Again.AS_IT_IS
