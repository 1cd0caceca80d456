"""A caller's server for hooks, on loopback: it keeps what it gets, and answers as it is told to."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


@dataclass(frozen=True)
class Hook:
    path: str
    headers: Mapping[str, str]
    body: bytes


class HookReceiver:
    """`answer_next` is for the next requests, one each: a status and headers; after them, 200.
    `draw`, if set, says which status the others get; 0 ends the connection without an answer."""

    def __init__(self) -> None:
        self.hooks: list[Hook] = []
        self.draw: Callable[[Hook], int] = lambda _hook: 200
        self._next: deque[tuple[int, dict[str, str]]] = deque()
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook = Hook(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                status, headers = receiver._take(hook)
                with contextlib.suppress(OSError):
                    receiver._answer(self, status, headers)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.host}/hook"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer_next(self, status: int, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._next.append((status, named))

    def _take(self, hook: Hook) -> tuple[int, dict[str, str]]:
        with self._lock:
            self.hooks.append(hook)
            return self._next.popleft() if self._next else (self.draw(hook), {})

    def _answer(
        self, request: BaseHTTPRequestHandler, status: int, headers: dict[str, str]
    ) -> None:
        if not status:
            request.close_connection = True
            return
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
