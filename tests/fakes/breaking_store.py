"""A stand-in for an S3 store that can be told to misbehave. It keeps what it takes, by path."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, Self

Mood = Literal["good", "refuses", "is silent", "breaks off", "is slow"]
_LISTING = b"<ListBucketResult><Name>pictures</Name></ListBucketResult>"
_REFUSAL = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>no</Message></Error>"


class BreakingStore:
    """`mood` may be set at any time. A store that is slow takes 3 s for each megabyte, one that
    breaks off ends the connection in the middle of an upload; a silent one never answers."""

    def __init__(self) -> None:
        self.mood: Mood = "good"
        self.objects: dict[str, bytes] = {}
        # Uploads that have begun, and not ended, on this side.
        self.uploads = 0
        self._closing = threading.Event()
        store = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                store.uploads += 1
                try:
                    store._take(self)
                finally:
                    store.uploads -= 1

            def do_GET(self) -> None:
                store._answer(self, 200, _LISTING)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        # What is sent and not yet taken stays with the client, as with a store that is far away.
        self._server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _take(self, request: BaseHTTPRequestHandler) -> None:
        mood, size = self.mood, int(request.headers["Content-Length"])
        request.close_connection = mood != "good"
        if mood == "breaks off":
            request.rfile.read(size // 2)
            return
        data = b""
        while len(data) < size and not self._closing.wait(0.05 if mood == "is slow" else 0):
            part = request.rfile.read(min(16_384, size - len(data)))
            if not part:
                return
            data += part
        if mood == "is silent":
            # The client's end of the connection ends it.
            request.rfile.read(1)
        elif mood == "refuses":
            self._answer(request, 403, _REFUSAL)
        elif mood in {"good", "is slow"}:
            self.objects[request.path] = data
            self._answer(request, 200, b"", ETag='"0"')

    def _answer(
        self, request: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str
    ) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)
