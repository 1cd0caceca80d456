"""The gateway as the page sees it, on loopback: real uploads and prompts, jobs that go as the test
says.

It serves the page with the headers of the real one.
"""

import asyncio
import io
import json
import threading
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import quote

from aiohttp import web
from PIL import Image, ImageOps

from gateway.page_files import page_files, page_headers
from gateway.prompt import (
    InvalidOptions,
    attribute_labels,
    compile_prompt,
    options,
    sees_whole_photo,
)
from tests.fakes.page_jobs import FINAL, Job, Json, PlayedJobs

_PREVIEW = 1600
_PAGE = "/services/qwen-image-edit"
_CREATE_KEYS = {
    "request_id", "prompt", "images", "mask", "ratio", "seed", "speed", "fit", "output",
}  # fmt: skip


@dataclass(kw_only=True, eq=False)
class PageGateway(PlayedJobs):
    """Every attribute may be set, and every method called, from any thread while it runs.

    `key` is asked for where set; `streams` False refuses event streams; `down` True drops every
    connection to the API; `create_gate` and `upload_gate`, while clear, hold such an answer back;
    `refuse_create` is (status, code, message) of a refusal, `lose_answers` a number of creates
    whose answer is lost after the job was made.
    """

    key: str | None = None
    streams: bool = True
    down: bool = False
    lose_answers: int = 0
    refuse_create: tuple[int, str, str] | None = None
    service: Json = field(default_factory=dict)
    credits: Json | None = None

    def __post_init__(self) -> None:
        self.create_gate = threading.Event()
        self.create_gate.set()
        self.upload_gate = threading.Event()
        self.upload_gate.set()
        super().__init__()
        self.uploads: dict[str, bytes] = {}
        self._files = page_files()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{_PAGE}"

    # What follows runs on the server's own thread.

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=64 << 20, middlewares=[self._guard])
        app.add_routes(
            [
                web.get(_PAGE, self._page),
                web.post(f"{_PAGE}/key", self._take_key),
                web.get(f"{_PAGE}/{{name}}", self._page),
                web.get("/api/options", self._options),
                web.post("/api/prompt/compile", self._compile),
                web.post("/api/uploads", self._upload),
                web.get("/api/previews/{id}", self._preview),
                web.post("/api/queue/create", self._create),
                web.get("/api/queue/status/{id}", self._status),
                web.get("/api/queue/events/{id}", self._events),
                web.post("/api/queue/cancel/{id}", self._cancel),
                web.get("/api/result/{key:.+}", self._result),
                web.get("/api/credits", self._credits),
                web.post("/api/credits/buy", self._buy),
            ]
        )
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        self._started.set()
        await self._stop.wait()
        await runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path.startswith("/api/"):
            self.note(f"{request.method} {request.path}")
            if self.down and request.transport is not None:
                request.transport.abort()
            if self.key and request.cookies.get("gateway_key") != self.key:
                return _refused(401, "unauthorized", "A key is needed.")
        return await handler(request)  # type: ignore[no-any-return]

    async def _page(self, request: web.Request) -> web.Response:
        file = self._files.get(request.match_info.get("name", "index.html"))
        if file is None:
            return web.Response(status=404)
        headers = {**page_headers(), "etag": file.etag, "content-type": file.media_type}
        return web.Response(body=file.body, headers=headers)

    async def _take_key(self, request: web.Request) -> web.Response:
        if (await request.json()).get("key") != self.key:
            return _refused(401, "unauthorized", "This key is not known.")
        answer = _answer({})
        assert self.key
        answer.set_cookie("gateway_key", self.key, httponly=True, samesite="Strict")
        return answer

    async def _options(self, _: web.Request) -> web.Response:
        return _answer({**options(), "attributes": attribute_labels(), "service": self.service})

    async def _compile(self, request: web.Request) -> web.Response:
        try:
            body = await request.json()
            return _answer({**compile_prompt(body), "whole": sees_whole_photo(body)})
        except InvalidOptions as exc:
            return _refused(400, "invalid_options", str(exc))

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        sent = form["image"]
        assert isinstance(sent, web.FileField)
        data = sent.file.read()
        await asyncio.to_thread(self.upload_gate.wait, 30)
        try:
            with Image.open(io.BytesIO(data)) as image:
                upright = ImageOps.exif_transpose(image).convert("RGB")
        except OSError:
            return _refused(400, "invalid_image", "The file is no picture that can be read.")
        size = upright.size
        upright.thumbnail((_PREVIEW, _PREVIEW))
        preview = io.BytesIO()
        upright.save(preview, "JPEG", quality=90)
        upload_id = f"up{next(self._numbers)}"
        self.uploads[upload_id] = preview.getvalue()
        answer = {"upload_id": upload_id, "width": size[0], "height": size[1]}
        return _answer({**answer, "preview_url": f"/api/previews/{upload_id}"})

    async def _preview(self, request: web.Request) -> web.Response:
        data = self.uploads.get(request.match_info["id"])
        if data is None:
            return _refused(404, "not_found", "There is no such upload.")
        return web.Response(body=data, content_type="image/jpeg")

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        if unknown := body.keys() - _CREATE_KEYS:
            return _refused(400, "invalid_request", f"{sorted(unknown)} are not known.")
        if self.refuse_create:
            return _refused(*self.refuse_create)
        for entry in body["images"]:
            if entry["image"].removeprefix("upload:") not in self.uploads:
                return _refused(404, "not_found", "There is no such upload.")
        job, was_known = self.of_request(body)
        if job.body != body:
            return _refused(409, "request_id_taken", "The request id was used with another body.")
        if self.lose_answers:
            self.lose_answers -= 1
            assert request.transport is not None
            request.transport.abort()
        await asyncio.to_thread(self.create_gate.wait, 30)
        return _answer(
            {
                "job_id": job.job_id, "status": "queued", "deduplicated": was_known,
                "status_url": f"/api/queue/status/{job.job_id}",
                "events_url": f"/api/queue/events/{job.job_id}",
            }
        )  # fmt: skip

    def _job(self, request: web.Request) -> Job | None:
        return self.jobs.get(request.match_info["id"])

    async def _status(self, request: web.Request) -> web.Response:
        job = self._job(request)
        return _answer(job.status) if job else _refused(404, "not_found", "There is no such job.")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        job = self._job(request)
        if job is None:
            return _refused(404, "not_found", "There is no such job.")
        if not self.streams:
            return _refused(503, "internal_error", "No streams.")
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(b": hello\n\n")
        told = None
        while self.streams and not self.down and told not in FINAL:
            if told != job.status["updated_at"]:
                status, told = job.status, job.status["updated_at"]
                data = json.dumps(status)
                await answer.write(f"id: {told}\ndata: {data}\n\n".encode())
                if status["status"] in FINAL:
                    break
            await asyncio.sleep(0.02)
        if (self.down or not self.streams) and request.transport is not None:
            request.transport.abort()
        return answer

    async def _cancel(self, request: web.Request) -> web.Response:
        job = self._job(request)
        if job is None:
            return _refused(404, "not_found", "There is no such job.")
        self.ask_to_cancel(job)
        return _answer(job.status)

    async def _result(self, request: web.Request) -> web.Response:
        data = self.results.get(request.match_info["key"])
        if data is None:
            return _refused(404, "not_found", "There is no such picture.")
        headers = {}
        if name := request.query.get("download"):
            headers["content-disposition"] = f"attachment; filename*=UTF-8''{quote(name)}"
        if request.query.get("format") == "jpeg":
            jpeg = io.BytesIO()
            with Image.open(io.BytesIO(data)) as image:
                image.convert("RGB").save(jpeg, "JPEG")
            return web.Response(body=jpeg.getvalue(), content_type="image/jpeg", headers=headers)
        return web.Response(body=data, content_type="image/png", headers=headers)

    async def _credits(self, _: web.Request) -> web.Response:
        return _answer(self.credits or {})

    async def _buy(self, request: web.Request) -> web.Response:
        assert self.credits
        wanted = (await request.json())["package"]
        pack = next(p for p in self.credits["packages"] if p["id"] == wanted)
        self.credits["balance"] += pack["credits"]
        return _answer({"balance": self.credits["balance"]})


def _answer(body: Json) -> web.Response:
    return web.json_response({"ok": True, "request_id": "r1", **body})


def _refused(status: int, code: str, message: str) -> web.Response:
    body = {
        "ok": False, "error": f"{code}: {message}", "code": code, "message": message,
        "retryable": status >= 500 or status == 429, "request_id": "r1",
    }  # fmt: skip
    return web.json_response(body, status=status)
