"""The page before the real gateway: a process of its own, real uploads, masks and results. Only the
worker is played, by its protocol."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageChops
from playwright.sync_api import expect

from tests.browser.conftest import PHONE, Visit
from tests.browser.visitor import TIMES, Visitor, jpeg
from tests.fakes.page_jobs import RECORDED
from tests.gateway_process import GatewayProcess
from tests.gateways import WORKER_KEY, failure, success, worker_auth

PAGE = "/services/qwen-image-edit"
SIZE = (900, 600)


@pytest.fixture
def real(tmp_path: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path, GATEWAY_WORKER_KEY=WORKER_KEY) as real:
        yield real


class Worker:
    """What a worker does, step by step."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._http = gateway.http

    def take(self) -> dict[str, Any]:
        route = "/v2/own/job-take/gpu-1?gpu=x&job_in_progress=0"
        answer = self._http.get(route, headers=worker_auth())
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def post(self, job: dict[str, Any], body: Any) -> None:
        route = f"/v2/own/job-done/gpu-1/{job['id']}?gpu=x&isStream=false"
        answer = self._http.post(route, content=json.dumps(body), headers=worker_auth())
        assert answer.status_code == 200, answer.text

    def progress(self, job: dict[str, Any], percent: int) -> None:
        output = {"phase": "execute", "percent": percent}
        self.post(job, {"status": "IN_PROGRESS", "output": output})

    def edit(self, job: dict[str, Any]) -> None:
        """Inverts the picture that it was sent, where the mask is white if there is one."""
        photo = _picture(job["input"]["images"][0]["image"])
        mask = job["input"].get("mask")
        edited = ImageChops.invert(photo)
        if mask:
            edited = Image.composite(edited, photo, _picture(mask).convert("L"))
        file = io.BytesIO()
        edited.save(file, "PNG")
        more = {"pixels_changed_outside": 0} if mask else {}
        self.post(job, success(file.getvalue(), seed=job["input"]["seed"], **more))


def _picture(text: str) -> Image.Image:
    data = base64.b64decode(text.rpartition(",")[2])
    return Image.open(io.BytesIO(data)).convert("RGB")


def _open(visit: Visit, real: GatewayProcess, **options: Any) -> Visitor:
    visitor = visit(url=real.url + PAGE, **options)
    visitor.is_in("empty")
    return visitor


def test_a_masked_edit_goes_through_the_real_gateway_and_back(
    visit: Visit, real: GatewayProcess
) -> None:
    visitor, worker = _open(visit, real, **PHONE), Worker(real)
    photo = jpeg(SIZE)
    visitor.give_photo(photo, "ทะเล.jpg")
    visitor.is_in("ready")
    assert visitor.photo_size == SIZE
    visitor.page.touchscreen.tap(*visitor.at((450, 300)))
    visitor.say("Make it red")
    visitor.generate()
    visitor.is_in("queued")
    job = worker.take()
    visitor.is_in("running")
    worker.progress(job, 40)
    expect(visitor.get("progress")).to_have_js_property("value", 40)
    visitor.page.reload()
    visitor.is_in("running")
    worker.edit(job)
    visitor.is_in("done")
    visitor.sees("proof", f"นอกส่วนที่ระบายไม่ถูกแก้แม้แต่พิกเซลเดียว · 900 {TIMES} 600")
    with visitor.page.expect_download() as download:
        visitor.press("download-png")
    assert download.value.suggested_filename == "ทะเล-edited.png"
    with visitor.page.expect_download() as small:
        visitor.press("download-jpg")
    assert small.value.suggested_filename == "ทะเล-edited.jpg"
    with Image.open(small.value.path()) as image:
        assert (image.format, image.size) == ("JPEG", SIZE)
    with Image.open(download.value.path()) as result, Image.open(io.BytesIO(photo)) as before:
        assert (result.format, result.size) == ("PNG", SIZE)
        changed = np.asarray(result.convert("RGB")) != np.asarray(before.convert("RGB"))
    rows, columns = np.nonzero(changed.any(-1))
    assert rows.size > 100
    radius = visitor.strokes()[0]["r"]
    assert np.hypot(columns + 0.5 - 450, rows + 0.5 - 300).max() <= radius + 1


def test_the_whole_picture_options_and_a_cancel_through_the_real_gateway(
    visit: Visit, real: GatewayProcess
) -> None:
    visitor, worker = _open(visit, real), Worker(real)
    visitor.give_photo(jpeg(SIZE))
    visitor.is_in("ready")
    visitor.press("mask-whole")
    visitor.press("option-outfit_colour")
    visitor.press("option-outfit_colour-colour-red")
    visitor.sees("keeps", "Face")
    visitor.get("ratio").select_option("1:1")
    visitor.generate()
    visitor.is_in("queued")
    visitor.press("cancel")
    visitor.is_in("ready")
    visitor.sees("status", "Cancelled")
    visitor.generate()
    visitor.is_in("queued")
    job = worker.take()
    assert job["input"]["ratio"] == "1:1"
    assert "to red" in job["input"]["prompt"]
    visitor.is_in("running")
    worker.post(job, failure("workflow_rejected", retryable=False))
    visitor.is_in("failed")
    visitor.sees("problem", "so it is (workflow_rejected). Change the photo")
    visitor.generate()
    worker.edit(worker.take())
    visitor.is_in("done")
    visitor.press("onward")
    visitor.is_in("ready")


def test_a_gateway_that_is_killed_and_started_again_is_found_again(
    visit: Visit, real: GatewayProcess
) -> None:
    visitor = _open(visit, real)
    visitor.give_photo(jpeg(SIZE))
    visitor.is_in("ready")
    visitor.press("mask-whole")
    visitor.say("Make it red")
    visitor.generate()
    visitor.is_in("queued")
    visitor.provoked = True
    real.kill()
    visitor.is_in("offline")
    real.start()
    visitor.is_in("queued")
    worker = Worker(real)
    worker.edit(worker.take())
    visitor.is_in("done")


def test_a_gateway_with_keys_asks_for_one(visit: Visit, tmp_path: Path) -> None:
    keys = {"GATEWAY_API_KEYS": "ann=key-of-ann", "GATEWAY_WORKER_KEY": WORKER_KEY}
    with GatewayProcess(tmp_path, **keys) as real:
        visitor = visit(url=real.url + PAGE)
        visitor.provoked = True
        dialog = visitor.page.locator("dialog")
        dialog.locator("input").fill("guess")
        dialog.locator("input").press("Enter")
        visitor.sees("refusal", "not known")
        dialog.locator("input").fill("key-of-ann")
        dialog.locator("input").press("Enter")
        visitor.sees_no("dialog")
        visitor.give_photo(jpeg(SIZE))
        visitor.is_in("ready")


def test_the_demo_needs_no_worker_and_says_that_it_is_one(visit: Visit, tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, GATEWAY_ROUTE="demo") as real:
        visitor = _open(visit, real)
        visitor.sees("demo", "Demo")
        visitor.give_photo(jpeg(SIZE))
        visitor.is_in("ready")
        visitor.drag((450, 300), (500, 300))
        visitor.say("Make it red")
        visitor.generate()
        visitor.is_in("running")
        visitor.is_in("done")
        visitor.sees("proof", "0 pixels changed outside")


def test_the_recorded_status_has_no_key_that_the_real_one_lacks(real: GatewayProcess) -> None:
    told = {**RECORDED["created"][0], "job_id": ""}
    status = real.status(real.create())
    assert set(told) <= set(status)
    events = [event for name, events in RECORDED.items() if name != "created" for event in events]
    assert all(set(event) <= set(status) for event in events)
