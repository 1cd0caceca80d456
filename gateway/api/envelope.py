"""Around every request: its id, and the bound on its body."""

import re
import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import BodyTooLarge

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_RESULT_ROUTE = re.compile(r"/v2/own/job-done/")
MOST_RESULT_BYTES = 200_000_000


class Envelope:
    """`most_bytes` bounds a body, whatever its headers say of it; a worker's result has a bound of
    its own."""

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self._app = app
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        state = scope.setdefault("state", {})
        state["request_id"] = _request_id(headers)
        most = MOST_RESULT_BYTES if _RESULT_ROUTE.match(scope["path"]) else self._most_bytes
        received = 0

        async def receive_bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > most or _announced(headers) > most:
                raise BodyTooLarge(f"the body is over {most} bytes")
            return message

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = state["request_id"]
            await send(message)

        await self._app(scope, receive_bounded, send_with_id)


def _request_id(headers: Headers) -> str:
    for name in ("x-request-id", "cf-ray"):
        value: Any = headers.get(name)
        if value and _REQUEST_ID.fullmatch(value):
            return str(value)
    return uuid.uuid4().hex


def _announced(headers: Headers) -> int:
    value = headers.get("content-length", "0")
    return int(value) if value.isdecimal() else 0
