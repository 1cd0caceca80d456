"""A stand-in for the Hugging Face hub and for the CDN that it sends downloads to, on loopback.

It answers what huggingface_hub asks about a file of a commit, serves its bytes from another origin,
and can break off, stall, send wrong bytes, refuse. `tests/contract` holds it to the real library.
"""

import contextlib
import json
import socket
import struct
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self
from urllib.parse import parse_qs

from handler.models.lock import ModelFile

Side = Literal["hub", "cdn"]


@dataclass(frozen=True)
class Request:
    side: Side
    method: str
    path: str
    headers: dict[str, str]

    @property
    def range(self) -> str | None:
        return self.headers.get("range")


@dataclass
class _File:
    model: ModelFile
    content: bytes
    is_ranged: bool = True
    # For each answer to come: the bytes after which the connection is reset, or (as "end") closed.
    breaks: deque[tuple[int, str]] = field(default_factory=deque)
    # Bytes of an answer after which it waits for `released`.
    stall_after: int | None = None


@dataclass(eq=False)
class FakeHub:
    """Every method may be called from any thread. `token`: what a request must bear."""

    token: str | None = None

    def __post_init__(self) -> None:
        self.requests: list[Request] = []
        self.released = threading.Event()
        self.stalled = threading.Event()
        self._files: dict[str, _File] = {}
        self._forced: dict[Side, deque[tuple[int, dict[str, str]]]] = {
            "hub": deque(), "cdn": deque(),
        }  # fmt: skip
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), self._handler(s)) for s in _SIDES]

    def __enter__(self) -> Self:
        for server in self._servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._servers[0].server_port}"

    @property
    def _cdn(self) -> str:
        # Another name than the hub's: the library takes the endpoint's host for the hub itself.
        return f"http://localhost:{self._servers[1].server_port}"

    def add(
        self,
        model: ModelFile,
        content: bytes,
        *,
        is_ranged: bool = True,
        stall_after: int | None = None,
    ) -> None:
        """`content` may differ from what `model` says: the hub tells of `model`."""
        self._files[model.path] = _File(model, content, is_ranged, stall_after=stall_after)

    def break_off(self, model: ModelFile, *after: int, how: str = "reset") -> None:
        """Let the next answers end after so many bytes each. `how`: reset, or end."""
        self._files[model.path].breaks.extend((count, how) for count in after)

    def fail_next(self, side: Side, status: int, times: int = 1, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._forced[side].extend([(status, named)] * times)

    def gets(self, model: ModelFile) -> list[Request]:
        """The downloads of a file's bytes, in order."""
        return [
            request
            for request in list(self.requests)
            if (request.side, request.method) == ("cdn", "GET")
            and request.path.startswith(f"/{model.path}?")
        ]

    def _handler(self, side: Side) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                hub.requests.append(Request(side, self.command, self.path, headers))
                if hub._forced[side]:
                    status, extra = hub._forced[side].popleft()
                    _send(self, status, extra)
                elif side == "cdn":
                    hub._serve(self)
                elif hub.token and headers.get("authorization") != f"Bearer {hub.token}":
                    _send(self, 401, {"X-Error-Message": "Invalid username or password."})
                else:
                    hub._tell(self)

            do_GET = do_HEAD = do_POST = answer

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def _tell(self, request: BaseHTTPRequestHandler) -> None:
        """What is at a path of a repository: /OWNER/NAME/resolve/COMMIT/PATH, and paths-info."""
        parts = request.path.split("/")
        if parts[1:3] == ["api", "models"] and parts[5] == "paths-info":
            return self._paths_info(request, "/".join(parts[3:5]))
        if parts[3:4] != ["resolve"]:
            return _send(request, 404, {})
        repo, revision, path = "/".join(parts[1:3]), parts[4], "/".join(parts[5:])
        known = [file.model for file in self._files.values() if file.model.repo == repo]
        model = next((model for model in known if model.path == path), None)
        if revision not in [model.revision for model in known]:
            return _send(request, 404, {"X-Error-Code": "RevisionNotFound"})
        if model is None:
            return _send(request, 404, {"X-Error-Code": "EntryNotFound"})
        return _send(
            request,
            302,
            {
                "X-Repo-Commit": revision,
                "X-Linked-Etag": f'"{model.sha256}"',
                "X-Linked-Size": str(model.bytes),
                "ETag": f'"{model.sha256}"',
                "Location": f"{self._cdn}/{path}?signature=secret",
            },
        )

    def _paths_info(self, request: BaseHTTPRequestHandler, repo: str) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"])).decode()
        paths = parse_qs(body)["paths"]
        models = [self._files[path].model for path in paths if path in self._files]
        answer = [
            {
                "type": "file", "path": model.path, "size": model.bytes, "oid": "0" * 40,
                "lfs": {"oid": model.sha256, "size": model.bytes, "pointerSize": 135},
                "lastCommit": {
                    "id": model.revision, "title": "Upload", "date": "2025-09-24T08:00:00.000Z",
                },
            }
            for model in models if model.repo == repo
        ]  # fmt: skip
        _send(request, 200, {"Content-Type": "application/json"}, json.dumps(answer).encode())

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        """The bytes at a signed address, or the part of them that is asked for."""
        file = self._files[request.path.partition("?")[0][1:]]
        wanted = request.headers.get("Range", "bytes=0-") if file.is_ranged else "bytes=0-"
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start, end = int(first), int(last) + 1 if last else len(file.content)
        part = file.content[start:end]
        is_part = file.is_ranged and "Range" in request.headers
        request.send_response(206 if is_part else 200)
        request.send_header("Content-Length", str(len(part)))
        if is_part:
            request.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(file.content)}")
        request.end_headers()
        with contextlib.suppress(OSError):
            self._send_part(request, file, part)

    def _send_part(self, request: BaseHTTPRequestHandler, file: _File, part: bytes) -> None:
        if file.breaks:
            count, how = file.breaks.popleft()
            request.wfile.write(part[:count])
            _break(request, how)
        elif file.stall_after is not None:
            request.wfile.write(part[: file.stall_after])
            self.stalled.set()
            self.released.wait(60)
            request.wfile.write(part[file.stall_after :])
        else:
            request.wfile.write(part)


_SIDES: tuple[Side, Side] = ("hub", "cdn")


def _send(
    request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes = b""
) -> None:
    request.send_response(status)
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(body)


def _break(request: BaseHTTPRequestHandler, how: str) -> None:
    request.close_connection = True
    if how == "reset":
        # What was written must have left before, or the reset overtakes it.
        request.wfile.flush()
        linger = struct.pack("ii", 1, 0)
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        request.connection.close()
