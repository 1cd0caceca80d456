"""ComfyUI's HTTP API, one method for each route used, and its websocket. Knows no process."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp

from handler.comfy_api.refused_prompt import needs_object_info, rejection
from handler.errors import ComfyProtocol, ComfyUnavailable

_PROBE_S = 5.0
# What is told of a prompt, without `progress_state`: that one has all nodes in it, for each step of
# each, and a workflow of thousands makes gigabytes of them. So these are told apart before they are
# parsed (server.py, send_json, writes the type first).
_READ = re.compile(r'\{"type": "(?:executing|progress|execution_\w+)"')
_LARGEST_MESSAGE_BYTES = 64_000_000
_MOST_MESSAGES = 1000
_NOTHING = {"1": {"class_type": "PreviewAny", "inputs": {"source": ""}}}
_ANSWER_TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=5)


class ComfyClient:
    """Use as `async with`: its connections belong to the running event loop.

    Methods raise ComfyUnavailable when there is no answer and ComfyProtocol when the answer is
    not what this ComfyUI gives.
    """

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}"

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(self._base, timeout=_ANSWER_TIMEOUT)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        await self._session.close()

    async def is_answering(self) -> bool:
        """Whether ComfyUI answers, and soon."""
        try:
            async with asyncio.timeout(_PROBE_S):
                await self._get("/system_stats")
        except (ComfyUnavailable, ComfyProtocol, TimeoutError):
            return False
        return True

    async def queue_prompt(
        self, prompt: Mapping[str, Any], prompt_id: str, comfy_org_api_key: str | None = None
    ) -> None:
        """Queue under an id of our own; events for it go to the websocket of the same name.
        ComfyUI gives the key to nodes that ask for it, and shows it nowhere (server.py).

        Raises WorkflowRejected, also for a graph that is valid in part: ComfyUI answers 200 then
        and has queued that part, which the caller of this method must stop.
        """
        body: dict[str, Any] = {"prompt": prompt, "prompt_id": prompt_id, "client_id": prompt_id}
        if comfy_org_api_key:
            body["extra_data"] = {"api_key_comfy_org": comfy_org_api_key}
        answer = await self._request("POST", "/prompt", json=body, accepted=(200, 400))
        if not isinstance(answer, dict):
            raise ComfyProtocol("ComfyUI's answer to /prompt is no object")
        if answer.get("error") or answer.get("node_errors"):
            info = await self.object_info() if needs_object_info(answer) else {}
            raise await asyncio.to_thread(rejection, answer, prompt, info)

    async def history(self, prompt_id: str) -> dict[str, Any] | None:
        """The entry of a prompt that has ended; None before that, and for an unknown id."""
        answer = await self._get(f"/history/{prompt_id}")
        entry = answer.get(prompt_id) if isinstance(answer, dict) else None
        return entry if isinstance(entry, dict) else None

    async def forget(self, *prompt_ids: str) -> None:
        """Drop the prompts from the history, where ComfyUI would keep them until its end."""
        await self._request("POST", "/history", json={"delete": prompt_ids})

    async def queue(self) -> tuple[set[str], set[str]]:
        """The prompt ids that are running, and those that wait."""
        answer = await self._get("/queue")
        try:
            running, pending = answer["queue_running"], answer["queue_pending"]
            return {item[1] for item in running}, {item[1] for item in pending}
        except (TypeError, KeyError, IndexError) as exc:
            raise ComfyProtocol(f"ComfyUI's answer to /queue has an unknown form: {exc!r}") from exc

    async def stop_prompt(self, prompt_id: str) -> None:
        """Take the prompt out of the queue, or interrupt it if it is the one that runs."""
        await self._request("POST", "/queue", json={"delete": [prompt_id]})
        await self._request("POST", "/interrupt", json={"prompt_id": prompt_id})

    async def free(self, prompt_id: str) -> None:
        """Have all models unloaded and all caches dropped before any prompt runs that is queued
        after this.

        ComfyUI looks for it when it is woken and after each prompt; what comes in between is only
        seen once another prompt has run (main.py, prompt_worker; execution.py, PromptQueue.get).
        So one follows that does nothing, as `prompt_id`.
        """
        # It unloads models, too: a second flag would be a second chance to be late.
        await self._request("POST", "/free", json={"free_memory": True})
        await self._request("POST", "/prompt", json={"prompt": _NOTHING, "prompt_id": prompt_id})

    async def object_info(self) -> dict[str, Any]:
        answer = await self._get("/object_info")
        if not isinstance(answer, dict):
            raise ComfyProtocol("ComfyUI's answer to /object_info is no object")
        return answer

    @contextlib.asynccontextmanager
    async def events(self, prompt_id: str) -> AsyncIterator[asyncio.Queue[dict[str, Any]]]:
        """A queue that fills with ComfyUI's messages for this prompt; it may stay empty.

        Losing the websocket loses progress and nothing else, so it is never an error.
        """
        messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_MOST_MESSAGES)
        connected = asyncio.Event()
        listener = asyncio.create_task(self._listen(prompt_id, messages, connected))
        try:
            # Not wait_for: Python 3.11's can lose a cancellation.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await connected.wait()
            yield messages
        finally:
            listener.cancel()
            # gather, not a bare await: a cancellation of this task must not be taken for the
            # listener's.
            await asyncio.gather(listener, return_exceptions=True)

    async def _listen(
        self, prompt_id: str, messages: asyncio.Queue[dict[str, Any]], connected: asyncio.Event
    ) -> None:
        try:
            async with self._session.ws_connect(
                "/ws", params={"clientId": prompt_id}, max_msg_size=_LARGEST_MESSAGE_BYTES
            ) as socket:
                async for frame in socket:
                    # ComfyUI greets each client with its queue; only then is it subscribed.
                    connected.set()
                    if frame.type is aiohttp.WSMsgType.TEXT and _READ.match(frame.data):
                        message = frame.json()
                        if isinstance(message, dict):
                            if messages.full():
                                # The end of the prompt comes last.
                                messages.get_nowait()
                            messages.put_nowait(message)
        except (aiohttp.ClientError, ValueError, OSError):
            pass
        finally:
            connected.set()

    async def _get(self, path: str) -> Any:
        return await self._request("GET", path)

    async def _request(
        self, method: str, path: str, *, json: Any = None, accepted: tuple[int, ...] = (200,)
    ) -> Any:
        try:
            async with self._session.request(method, path, json=json) as response:
                if response.status not in accepted:
                    raise ComfyProtocol(f"ComfyUI answered {response.status} to {method} {path}")
                if response.content_type != "application/json":
                    return None
                return await response.json()
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise ComfyUnavailable(
                f"ComfyUI does not answer {method} {path}: {exc or type(exc).__name__}"
            ) from exc
        except ValueError as exc:
            raise ComfyProtocol(f"ComfyUI's answer to {method} {path} is not JSON") from exc
