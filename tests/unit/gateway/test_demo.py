"""The demo: no worker, every phase, an honest change, and for this machine only."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gateway.app import make_app, open_parts
from gateway.errors import InvalidSettings
from gateway.settings import Settings
from tests.gateways import TestGateway, as_text, picture, running_gateway

SIZE = (320, 240)
PHOTO = picture(size=SIZE)


@pytest.fixture
def demo(tmp_path: Path) -> Any:
    with running_gateway(tmp_path, gateway_route="demo") as gateway:
        yield gateway


def mask(box: tuple[int, int, int, int]) -> str:
    drawn = Image.new("L", SIZE)
    drawn.paste(255, box)
    file = io.BytesIO()
    drawn.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def result(gateway: TestGateway, status: dict[str, Any]) -> Any:
    data = gateway.client.get(status["result_url"]).content
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_a_masked_job_changes_what_is_inside_and_nothing_else(demo: TestGateway) -> None:
    job_id = demo.create(images=[{"image": as_text(PHOTO)}], mask=mask((100, 60, 220, 180)))
    phases = [status["phase"] for _, status in demo.events(job_id)]
    status = demo.status(job_id)
    assert status["status"] == "succeeded", status
    assert status["pixels_changed_outside"] == 0
    assert {"fetch", "execute", "deliver"} & set(phases)
    before = np.asarray(Image.open(io.BytesIO(PHOTO)))
    changed = (result(demo, status) != before).any(-1)
    rows, columns = np.nonzero(changed)
    assert changed[120, 160]
    assert rows.min() >= 60
    assert rows.max() < 180
    assert columns.min() >= 100
    assert columns.max() < 220


def test_a_whole_photo_keeps_its_size_or_takes_the_shape_that_was_asked(
    demo: TestGateway,
) -> None:
    images = [{"image": as_text(PHOTO)}]
    one, two = demo.create(images=images), demo.create(images=images, ratio="1:1", seed=7)
    first, second = demo.ended(one), demo.ended(two)
    assert (first["width"], first["height"]) == SIZE
    assert (second["width"], second["height"]) == (240, 240)
    assert second["seed"] == 7


def test_a_cancelled_job_leaves_the_next_one_its_turn(demo: TestGateway) -> None:
    images = [{"image": as_text(PHOTO)}]
    one, two = demo.create(images=images), demo.create(images=images)
    demo.client.post(f"/api/queue/cancel/{one}")
    assert demo.ended(one)["status"] == "cancelled"
    assert demo.ended(two)["status"] == "succeeded"


def test_a_workflow_is_refused_in_words(demo: TestGateway) -> None:
    workflow = {"1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}}}
    body = {"workflow": workflow, "images": [{"name": "a.png", "image": as_text(PHOTO)}]}
    answer = demo.client.post("/api/queue/create", json=body)
    error = demo.ended(answer.json()["job_id"])["error"]
    assert error["code"] == "invalid_input"
    assert "runs no workflow" in error["message"]


def test_the_page_is_told_that_this_is_a_demo(demo: TestGateway) -> None:
    assert demo.client.get("/api/options").json()["service"] == {"demo": True}


def test_a_demo_that_is_open_to_others_does_not_start(tmp_path: Path) -> None:
    settings = Settings(
        gateway_data_dir=tmp_path, gateway_route="demo", gateway_listen="0.0.0.0:8787",
        gateway_api_keys="ann=key-of-ann",
    )  # fmt: skip
    with open_parts(settings) as parts, pytest.raises(InvalidSettings, match="this machine only"):
        make_app(parts)
