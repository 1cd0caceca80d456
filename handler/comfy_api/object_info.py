"""ComfyUI's /object_info, asked for once for each child."""

from typing import Any

from handler.comfy import Supervisor
from handler.comfy_api.client import ComfyClient


class ObjectInfo:
    """Another child may have other nodes; with nothing else does that change that a conversion
    looks at."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._answer: dict[str, Any] = {}
        self._generation = 0

    async def read(self, comfy: ComfyClient) -> dict[str, Any]:
        """Raises ComfyUnavailable and ComfyProtocol."""
        # Before the answer: another child may be there after it.
        generation = self._supervisor.generation
        if self._generation != generation:
            self._answer = await comfy.object_info()
            self._generation = generation
        return self._answer
