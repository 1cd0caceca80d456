"""A real S3 server (moto's), and before it a proxy that breaks."""

import http.client
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import boto3
import httpx
from moto.server import ThreadedMotoServer

NAME, KEY_ID, SECRET = "pictures", "key-id", "secret-of-tests"


class BreakingBucket:
    """`mood` may be set at any time: good; refuses (503); breaks off, before anything is done; is
    silent, for two seconds; lost: done, and the answer is cut off."""

    def __init__(self) -> None:
        self.mood = "good"
        self._moto = ThreadedMotoServer("127.0.0.1", 0)
        bucket = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 60

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except OSError:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
            setattr(Handler, f"do_{method}", lambda request: bucket._serve(request))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        # A line for each request, else.
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._moto.start()
        self._thread.start()
        # All of moto's servers in a process share what they hold.
        host, port = self._moto.get_host_and_port()
        httpx.post(f"http://{host}:{port}/moto-api/reset", trust_env=False).raise_for_status()
        self.client.create_bucket(Bucket=NAME)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._moto.stop()

    @property
    def client(self) -> Any:
        return boto3.client(
            "s3", endpoint_url=self.url, aws_access_key_id=KEY_ID, aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )  # fmt: skip

    def env(self) -> dict[str, str]:
        return {
            "BUCKET_ENDPOINT_URL": self.url, "BUCKET_NAME": NAME,
            "BUCKET_ACCESS_KEY_ID": KEY_ID, "BUCKET_SECRET_ACCESS_KEY": SECRET,
        }  # fmt: skip

    def keys(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=NAME)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        mood = self.mood
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        if mood == "is silent":
            threading.Event().wait(2.0)
        elif mood == "breaks off":
            request.close_connection = True
            return
        elif mood == "refuses":
            request.close_connection = True
            self._answer(request, 503, [], b"")
            return
        host, port = self._moto.get_host_and_port()
        upstream = http.client.HTTPConnection(host, port, timeout=30)
        try:
            upstream.request(request.command, request.path, body, dict(request.headers))
            answer = upstream.getresponse()
            data, headers = answer.read(), answer.getheaders()
        finally:
            upstream.close()
        if mood == "lost":
            request.close_connection = True
            return
        self._answer(request, answer.status, headers, data)

    def _answer(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        headers: list[tuple[str, str]],
        data: bytes,
    ) -> None:
        request.send_response(status)
        has_length = False
        for name, value in headers:
            if name.lower() in ("connection", "transfer-encoding", "server", "date"):
                continue
            has_length = has_length or name.lower() == "content-length"
            request.send_header(name, value)
        if not has_length:
            request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)
