import asyncio
from typing import Any

from handler.comfy.supervisor import Supervisor
from handler.comfy_api.client import ComfyClient
from handler.comfy_api.object_info import ObjectInfo
from handler.machine.shutdown import Shutdown


async def never() -> bool:
    return False


class Children(ComfyClient):
    """Answers with the child that was there when it was asked."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self.asked = 0
        self.dies_meanwhile = False

    async def object_info(self) -> dict[str, Any]:
        self.asked += 1
        answer = {"of child": self.supervisor.generation}
        if self.dies_meanwhile:
            self.supervisor.generation += 1
        return answer


def make_children() -> Children:
    # No test starts a process.
    supervisor = Supervisor(None, never, Shutdown(), boot_timeout_s=1, restarts=1)  # type: ignore[arg-type]
    supervisor.generation = 1
    return Children(supervisor)


def test_each_child_is_asked_once() -> None:
    comfy = make_children()
    info = ObjectInfo(comfy.supervisor)
    assert [asyncio.run(info.read(comfy))["of child"] for _ in range(2)] == [1, 1]
    comfy.supervisor.generation = 2
    assert [asyncio.run(info.read(comfy))["of child"] for _ in range(2)] == [2, 2]
    assert comfy.asked == 2


def test_the_answer_of_a_child_that_died_meanwhile_is_not_kept_for_the_next() -> None:
    comfy = make_children()
    info = ObjectInfo(comfy.supervisor)
    comfy.dies_meanwhile = True
    asyncio.run(info.read(comfy))
    comfy.dies_meanwhile = False
    assert asyncio.run(info.read(comfy)) == {"of child": 2}
