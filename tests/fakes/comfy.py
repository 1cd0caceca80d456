"""A stand-in for ComfyUI's API, small and run as a child process: `comfy.py --port PORT`.

What a prompt does is said by its nodes' class types (see `NODES`). `tests/contract` holds the
routes, forms and order of events to the real ComfyUI.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

# The inputs that each node must have. The first five are real ones, of ComfyUI and of
# tests/integration/nodes; the others stand for what can happen around a node.
NODES: dict[str, tuple[str, ...]] = {
    "EmptyImage": ("width", "height"),
    "SaveImage": ("images", "filename_prefix"),
    "PreviewAny": ("source",),
    "SlowImage": ("image", "seconds", "obeys"),  # `obeys` an interruption, or does not
    "FailingImage": ("image", "kind"),
    "Block": ("seconds",),  # holds the interpreter: no route answers meanwhile
    "BlockPost": (),  # holds the interpreter for 1.5 s when the prompt is posted
    "LatePost": (),  # the first time, the prompt is taken 1.5 s after it was posted
    "HungryOnce": (),  # has no memory the first time
    "Vanish": (),  # the prompt goes, and leaves no history entry
    "Die": (),  # SIGKILL to the process itself
    "DieForgotten": (),  # the same, when the prompt's history entry is deleted
    "DeafOnce": (),  # the first interruption of the prompt is lost
    "SilentSocket": (),  # no event of this prompt is sent
    "CutSocket": (),  # the websocket is closed when the prompt begins
}
OUTPUTS = {"SaveImage", "PreviewAny"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fake_argv(port: int) -> list[str]:
    return [sys.executable, __file__, "--port", str(port)]


def graph(*class_types: str, name: str = "picture", **inputs: Any) -> dict[str, Any]:
    """EmptyImage, then these nodes in a row, then SaveImage; `inputs` go to all between."""
    prompt = {"1": node("EmptyImage", width=8, height=8, batch_size=1, color=0)}
    for class_type in class_types:
        prompt[str(len(prompt) + 1)] = node(class_type, image=[str(len(prompt)), 0], **inputs)
    last = str(len(prompt))
    prompt[str(len(prompt) + 1)] = node("SaveImage", images=[last, 0], filename_prefix=name)
    return prompt


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def has(prompt: dict[str, Any], class_type: str) -> bool:
    return any(node["class_type"] == class_type for node in prompt.values())


class InterruptedNode(Exception):
    pass


class VanishedPrompt(Exception):
    pass


@dataclass
class Item:
    """A prompt in the queue, in the order of ComfyUI's own tuple."""

    number: int
    prompt_id: str
    prompt: dict[str, Any]
    extra: dict[str, Any]
    outputs: list[str]

    def as_list(self) -> list[Any]:
        return [self.number, self.prompt_id, self.prompt, self.extra, self.outputs]

    def has(self, class_type: str) -> bool:
        return has(self.prompt, class_type)


class FakeComfy:
    def __init__(self) -> None:
        self.pending: list[Item] = []
        self.running: Item | None = None
        self.deaf_to: Item | None = None
        self.seen: set[tuple[str, str]] = set()
        self.history: dict[str, Any] = {}
        self.sockets: dict[str, web.WebSocketResponse] = {}
        self.messages: list[Any] = []
        self.arrived = asyncio.Event()
        self.interrupted = asyncio.Event()
        self.numbers = iter(range(1_000_000))

    async def execute_queue(self) -> None:
        while True:
            while not self.pending:
                self.arrived.clear()
                await self.arrived.wait()
            self.running = item = self.pending.pop(0)
            with contextlib.suppress(VanishedPrompt):
                self.history[item.prompt_id] = await self.execute(item)
            self.running = None
            if item.prompt_id in self.history:
                await self.send(item, "executing", node=None)

    async def execute(self, item: Item) -> dict[str, Any]:
        """The history entry."""
        self.interrupted.clear()
        self.messages, outputs = [], {}
        client = self.sockets.get(item.extra.get("client_id", ""))
        if item.has("CutSocket") and client is not None:
            await client.close()
        await self.send_kept(item, "execution_start")
        await self.send_kept(item, "execution_cached", nodes=[])
        ending = "execution_success"
        for node_id, node in item.prompt.items():
            about = {"node_id": node_id, "node_type": node["class_type"], "executed": []}
            await self.send(item, "executing", node=node_id, display_node=node_id)
            if node["class_type"] == "SlowImage":
                await self.send(item, "progress", node=node_id, value=1, max=2)
            try:
                output = await self.execute_node(item, node)
            except InterruptedNode:
                ending = "execution_interrupted"
                await self.send_kept(item, ending, **about)
                break
            except RuntimeError as exc:
                ending, fault = "execution_error", {"exception_message": f"{exc}\n"}
                fault["exception_type"] = "RuntimeError"
                await self.send_kept(item, ending, **about, **fault)
                break
            if output:
                outputs[node_id] = output
                await self.send(item, "executed", node=node_id, output=output)
        else:
            await self.send_kept(item, ending)
        completed = ending == "execution_success"
        status = {"status_str": "success" if completed else "error", "completed": completed}
        return {
            "prompt": item.as_list(),
            "outputs": outputs,
            "status": {**status, "messages": self.messages},
            "meta": {},
        }

    def is_first(self, class_type: str, prompt_id: str) -> bool:
        is_first = (class_type, prompt_id) not in self.seen
        self.seen.add((class_type, prompt_id))
        return is_first

    def fail(self, item: Item, class_type: str) -> None:
        if class_type == "FailingImage":
            raise RuntimeError("broken on purpose")
        if self.is_first(class_type, item.prompt_id):
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")

    async def execute_node(self, item: Item, node: dict[str, Any]) -> dict[str, Any]:
        class_type, inputs = node["class_type"], node["inputs"]
        if self.interrupted.is_set():
            raise InterruptedNode
        match class_type:
            case "SlowImage":
                await self.be_slow(inputs["seconds"], inputs["obeys"])
            case "FailingImage" | "HungryOnce":
                self.fail(item, class_type)
            case "Block":
                time.sleep(inputs["seconds"])
            case "Vanish":
                raise VanishedPrompt
            case "Die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "SaveImage":
                place = Path(inputs["filename_prefix"])
                folder = str(place.parent) if place.parent.name else ""
                name = f"{place.name}_00001_.png"
                return {"images": [{"filename": name, "subfolder": folder, "type": "output"}]}
        return {}

    async def be_slow(self, seconds: float, obeys: bool) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not (obeys and self.interrupted.is_set()):
                    await asyncio.sleep(0.01)
                raise InterruptedNode

    async def send_kept(self, item: Item, kind: str, **data: Any) -> None:
        """Sends what the history keeps too."""
        data = {"prompt_id": item.prompt_id, **data, "timestamp": int(time.time() * 1000)}
        self.messages.append([kind, data])
        await self.send(item, kind, **data)

    async def send(self, item: Item, kind: str, **data: Any) -> None:
        client = self.sockets.get(item.extra.get("client_id", ""))
        if client is None or item.has("SilentSocket"):
            return
        with contextlib.suppress(ConnectionError):
            await client.send_json({"type": kind, "data": {"prompt_id": item.prompt_id, **data}})

    async def get_ws(self, request: web.Request) -> web.WebSocketResponse:
        client = web.WebSocketResponse()
        await client.prepare(request)
        sid = request.query.get("clientId", "")
        self.sockets[sid] = client
        info = {"exec_info": {"queue_remaining": len(self.pending) + (self.running is not None)}}
        await client.send_json({"type": "status", "data": {"status": info, "sid": sid}})
        async for _ in client:
            pass
        self.sockets.pop(sid, None)
        return client

    async def get_system_stats(self, _request: web.Request) -> web.Response:
        return web.json_response({"system": {"comfyui_version": "fake"}, "devices": []})

    async def get_object_info(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                name: {"input": {"required": {key: ["*", {}] for key in inputs}}, "name": name}
                for name, inputs in NODES.items()
            }
        )

    async def post_prompt(self, request: web.Request) -> web.Response:
        body = await request.json()
        prompt = body["prompt"]
        error, node_errors, outputs = self.validate(prompt)
        if error:
            return web.json_response({"error": error, "node_errors": node_errors}, status=400)
        if has(prompt, "BlockPost"):
            time.sleep(1.5)
        if has(prompt, "LatePost") and self.is_first("LatePost", body["prompt_id"]):
            await asyncio.sleep(1.5)
        number, extra = next(self.numbers), {"client_id": body.get("client_id", "")}
        self.pending.append(Item(number, body["prompt_id"], prompt, extra, outputs))
        self.arrived.set()
        answer = {"prompt_id": body["prompt_id"], "number": number, "node_errors": node_errors}
        return web.json_response(answer)

    def validate(self, prompt: dict[str, Any]) -> tuple[dict[str, Any] | None, Any, list[str]]:
        """The error, the node errors and the outputs that are good."""
        node_errors: dict[str, Any] = {}
        good = []
        for node_id, node in prompt.items():
            name = node["class_type"]
            if name not in NODES:
                message = f"Cannot execute because node {name} does not exist."
                details = f"Node ID '#{node_id}'"
                return _error("invalid_prompt", message, details), {}, []
            faults = [
                _error("required_input_missing", "Required input is missing", key, input_name=key)
                for key in NODES[name]
                if key not in node["inputs"]
            ]
            if faults:
                entry = {"errors": faults, "dependent_outputs": [node_id], "class_type": name}
                node_errors[node_id] = entry
            elif name in OUTPUTS:
                good.append(node_id)
        if not OUTPUTS & {node["class_type"] for node in prompt.values()}:
            return _error("prompt_no_outputs", "Prompt has no outputs", ""), {}, []
        if not good:
            message = "Prompt outputs failed validation"
            return _error("prompt_outputs_failed_validation", message, ""), node_errors, []
        return None, node_errors, good

    async def get_queue(self, _request: web.Request) -> web.Response:
        running = [self.running.as_list()] if self.running else []
        pending = [item.as_list() for item in self.pending]
        return web.json_response({"queue_running": running, "queue_pending": pending})

    async def post_queue(self, request: web.Request) -> web.Response:
        deleted = (await request.json()).get("delete", [])
        self.pending = [item for item in self.pending if item.prompt_id not in deleted]
        return web.Response()

    async def post_interrupt(self, request: web.Request) -> web.Response:
        if self.running and self.running.prompt_id == (await request.json()).get("prompt_id"):
            if self.deaf_to is None and self.running.has("DeafOnce"):
                self.deaf_to = self.running
            else:
                self.interrupted.set()
        return web.Response()

    async def post_free(self, _request: web.Request) -> web.Response:
        """It keeps nothing that could be freed."""
        return web.Response()

    async def get_history(self, request: web.Request) -> web.Response:
        prompt_id = request.match_info["prompt_id"]
        entry = self.history.get(prompt_id)
        return web.json_response({prompt_id: entry} if entry else {})

    async def post_history(self, request: web.Request) -> web.Response:
        for prompt_id in (await request.json()).get("delete", []):
            entry = self.history.pop(prompt_id, None)
            if entry and "DieForgotten" in str(entry["prompt"]):
                os.kill(os.getpid(), signal.SIGKILL)
        return web.Response()


def _error(kind: str, message: str, details: str, **extra: Any) -> dict[str, Any]:
    return {"type": kind, "message": message, "details": details, "extra_info": extra}


async def main(port: int) -> None:
    fake = FakeComfy()
    app = web.Application()
    app.router.add_get("/ws", fake.get_ws)
    app.router.add_get("/system_stats", fake.get_system_stats)
    app.router.add_get("/object_info", fake.get_object_info)
    app.router.add_post("/prompt", fake.post_prompt)
    app.router.add_get("/queue", fake.get_queue)
    app.router.add_post("/queue", fake.post_queue)
    app.router.add_post("/interrupt", fake.post_interrupt)
    app.router.add_get("/history/{prompt_id}", fake.get_history)
    app.router.add_post("/history", fake.post_history)
    app.router.add_post("/free", fake.post_free)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print(f"fake ComfyUI listens on {port}", flush=True)
    await fake.execute_queue()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    # The worker's other flags mean nothing here.
    asyncio.run(main(parser.parse_known_args()[0].port))
