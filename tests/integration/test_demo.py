"""The whole road of a photo over HTTP, by the demo: a real gateway process, and no worker."""

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from handler.pictures import changed_outside, read_mask, read_photo
from handler.settings import PROJECT_DIR
from tests.databases import Templates
from tests.gateway_process import GatewayProcess
from tests.gateways import picture

SIZE = (320, 240)
PHOTO = picture("JPEG", SIZE)


def white_ellipse() -> bytes:
    mask = Image.new("L", SIZE, 0)
    ImageDraw.Draw(mask).ellipse((80, 60, 200, 180), fill=255)
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path, GATEWAY_ROUTE="demo", GATEWAY_CREDITS="test") as found:
        yield found


def balance(gateway: GatewayProcess) -> tuple[int, int]:
    found = gateway.http.get("/api/credits").raise_for_status().json()
    return found["balance"], found["held"]


def events(gateway: GatewayProcess, job_id: str) -> list[dict[str, Any]]:
    with gateway.http.stream("GET", f"/api/queue/events/{job_id}") as answer:
        return [
            json.loads(line.removeprefix("data:"))
            for line in answer.iter_lines()
            if line.startswith("data:")
        ]


def test_from_upload_to_a_picture_that_keeps_every_pixel_outside_the_mask(
    gateway: GatewayProcess,
) -> None:
    ready = gateway.http.get("/ready")
    assert (ready.status_code, ready.json()["demo"]) == (200, True)
    files = {"image": ("photo.jpg", PHOTO, "image/jpeg")}
    upload = gateway.http.post("/api/uploads", files=files).raise_for_status().json()
    assert (upload["width"], upload["height"]) == SIZE
    answer = gateway.http.post(
        "/api/queue/create",
        data={"prompt": "ลบคนออก", "image": f"upload:{upload['upload_id']}", "speed": "fine"},
        files={"mask": ("mask.png", white_ellipse(), "image/png")},
    )
    assert answer.status_code == 200, answer.text
    job_id = answer.json()["job_id"]

    seen = events(gateway, job_id)
    assert list(dict.fromkeys(one["status"] for one in seen)) == ["queued", "running", "succeeded"]
    phases = [one["phase"] for one in seen if one["phase"]]
    assert list(dict.fromkeys(phases)) == ["wait", "execute", "deliver", "store"]
    assert len({one["percent"] for one in seen if one["phase"] == "execute"}) >= 4
    last = seen[-1]
    assert (last["backend"], last["attempts"], last["percent"]) == ("demo", 1, 100)
    assert last["pixels_changed_outside"] == 0
    assert last["credits"] == {"cost": 5, "state": "settled"}
    assert balance(gateway) == (45, 0)

    result = gateway.http.get(last["result_url"])
    assert result.headers["content-type"] == "image/png"
    before, after = read_photo(PHOTO), read_photo(result.content)
    mask = read_mask(white_ellipse(), SIZE)
    assert changed_outside(before, after, mask) == 0
    assert (before.pixels != after.pixels).any(axis=2)[mask].mean() > 0.9


def test_without_a_mask_the_whole_photo_is_drawn_over(gateway: GatewayProcess) -> None:
    job_id = gateway.create(ratio="1:1", output={"format": "webp"})
    status = gateway.wait(job_id, "succeeded", "failed")
    assert (status["status"], status["width"], status["height"]) == ("succeeded", 48, 48)
    assert status["pixels_changed_outside"] is None
    assert status["result_key"].endswith(".webp")


def test_a_cancel_stops_what_runs_and_what_waits_for_nothing(gateway: GatewayProcess) -> None:
    jobs = [gateway.create() for _ in range(4)]
    gateway.wait(jobs[0], "running")
    assert gateway.status(jobs[-1])["status"] == "queued"
    for job_id in jobs:
        gateway.http.post(f"/api/queue/cancel/{job_id}").raise_for_status()
    ended = [gateway.wait(job_id, "succeeded", "failed", "cancelled") for job_id in jobs]
    assert [one["status"] for one in ended] == ["cancelled"] * 4
    assert balance(gateway) == (50, 0)


def runs(gateway: GatewayProcess, job_id: str) -> None:
    gateway.wait(job_id, "running")


def draws(gateway: GatewayProcess, job_id: str) -> None:
    """Until it has said more than that it runs, or has ended already."""
    gateway.wait(job_id, "running", "succeeded")
    while (status := gateway.status(job_id))["status"] == "running":
        if status["phase"] not in {None, "wait"}:
            return


def nothing(_gateway: GatewayProcess, _job_id: str) -> None:
    pass


@pytest.mark.parametrize(
    ("engine", "until"), [("sqlite", nothing), ("sqlite", draws), ("postgresql", runs)]
)
def test_after_a_kill_the_job_goes_on_and_is_paid_once(
    tmp_path: Path,
    database_templates: Templates,
    engine: str,
    until: Callable[[GatewayProcess, str], None],
) -> None:
    url = database_templates.url(engine)
    with GatewayProcess(
        tmp_path, GATEWAY_ROUTE="demo", GATEWAY_CREDITS="test", GATEWAY_DATABASE_URL=url
    ) as gateway:
        job_id = gateway.create(request_id="order-1")
        until(gateway, job_id)
        gateway.kill()
        gateway.start()
        assert gateway.create(request_id="order-1") == job_id
        status = gateway.wait(job_id, "succeeded", "failed", "cancelled")
        assert status["status"] == "succeeded"
        assert status["credits"] == {"cost": 1, "state": "settled"}
        assert balance(gateway) == (49, 0)
        folder = gateway.data_dir / "objects" / "results" / job_id
        assert len(list(folder.iterdir())) == 1


def test_on_an_address_that_others_reach_it_does_not_start(tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-m", "gateway", "serve"], cwd=PROJECT_DIR, capture_output=True, text=True,
        env={
            "PYTHONPATH": str(PROJECT_DIR), "GATEWAY_ROUTE": "demo",
            "GATEWAY_LISTEN": "0.0.0.0:0", "GATEWAY_DATA_DIR": str(tmp_path),
            "GATEWAY_API_KEYS": "ann=key-of-ann",
        },
    )  # fmt: skip
    assert child.returncode == 1
    assert "invalid_settings" in child.stderr
    assert "serves this machine only" in child.stderr
