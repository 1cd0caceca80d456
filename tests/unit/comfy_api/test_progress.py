import asyncio
from typing import Any

import pytest

from handler.comfy_api.progress import PromptProgress, Reporter

PROMPT = {str(n): {"class_type": f"Class{n}", "inputs": {}} for n in range(1, 5)}


def send_to(sent: list[dict[str, Any]], takes_s: float = 0.0) -> Any:
    async def send(update: dict[str, Any]) -> None:
        await asyncio.sleep(takes_s)
        sent.append(update)

    return send


def test_the_first_update_goes_out_at_once_and_only_the_latest_follows() -> None:
    sent: list[dict[str, Any]] = []

    async def scene() -> None:
        reporter = Reporter(send_to(sent))
        async with reporter.running():
            reporter.report("wait")
            await asyncio.sleep(0.05)
            for step in range(100):
                reporter.report("execute", step=step)
            await asyncio.sleep(0.6)

    asyncio.run(scene())
    assert sent == [{"phase": "wait"}, {"phase": "execute", "step": 99}]


def test_nothing_is_sent_after_the_end() -> None:
    sent: list[dict[str, Any]] = []

    async def scene() -> int:
        reporter = Reporter(send_to(sent, takes_s=0.1))
        async with reporter.running():
            reporter.report("wait")
            await asyncio.sleep(0.05)
            reporter.report("deliver")
        at_the_end = len(sent)
        await asyncio.sleep(0.7)
        return at_the_end

    assert asyncio.run(scene()) == len(sent) == 1


def test_a_send_that_hangs_does_not_hold_up_the_answer() -> None:
    async def scene() -> None:
        reporter = Reporter(send_to([], takes_s=3600))
        async with reporter.running():
            reporter.report("wait")
            await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(scene(), 10))


def test_a_send_that_fails_fails_no_job() -> None:
    async def fail(_update: dict[str, Any]) -> None:
        raise OSError("no network")

    async def scene() -> None:
        reporter = Reporter(fail)
        async with reporter.running():
            reporter.report("wait")
            await asyncio.sleep(0.05)
            reporter.report("execute")

    asyncio.run(scene())


def test_a_cancellation_passes() -> None:
    async def scene() -> None:
        reporter = Reporter(send_to([]))
        async with reporter.running():
            reporter.report("wait")
            await asyncio.sleep(3600)

    async def cancelled() -> None:
        task = asyncio.create_task(scene())
        await asyncio.sleep(0.05)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())


def test_without_anywhere_to_send_to_nothing_happens() -> None:
    async def scene() -> None:
        reporter = Reporter(None)
        async with reporter.running():
            reporter.report("wait")

    asyncio.run(scene())


def test_a_node_and_a_step_become_an_update() -> None:
    progress = PromptProgress(PROMPT)
    assert progress.take("executing", {"node": "1"}) == {
        "node_id": "1", "class_type": "Class1", "percent": 0,
    }  # fmt: skip
    assert progress.take("progress", {"node": "1", "value": 1, "max": 2}) == {
        "node_id": "1", "class_type": "Class1", "step": 1, "steps": 2, "percent": 12,
    }  # fmt: skip


def test_percent_counts_nodes_cached_ones_too_and_never_goes_back_or_to_100() -> None:
    progress = PromptProgress(PROMPT)
    progress.take("execution_cached", {"nodes": ["1", "2"]})
    shown = [
        update["percent"]
        for kind, data in [
            ("executing", {"node": "3"}),
            ("progress", {"node": "3", "value": 4, "max": 4}),
            ("progress", {"node": "3", "value": 1, "max": 4}),
            ("executing", {"node": "4"}),
            ("progress", {"node": "4", "value": 9, "max": 9}),
        ]
        if (update := progress.take(kind, data))
    ]
    assert shown == [50, 75, 75, 75, 99]


@pytest.mark.parametrize(
    ("kind", "data"),
    [("status", {}), ("executing", {"node": None}), ("execution_success", {"node": "1"})],
)
def test_other_messages_are_no_progress(kind: str, data: dict[str, Any]) -> None:
    assert PromptProgress(PROMPT).take(kind, data) is None


@pytest.mark.parametrize("data", [{"node": "1", "value": "x", "max": None}, {"node": ["1"]}])
def test_odd_values_are_survived(data: dict[str, Any]) -> None:
    assert "step" not in (PromptProgress(PROMPT).take("progress", data) or {})
