"""Masks end to end: only a piece travels, and not one pixel outside the mask changes."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from gateway.prompt import sees_whole_photo
from tests.gateways import TestGateway, as_text, edit, picture, running_gateway, success

SIZE = (900, 700)
SPOT = (600, 400, 640, 450)


def photo(**how: Any) -> bytes:
    return picture(how.pop("kind", "PNG"), SIZE, **how)


def mask(size: tuple[int, int] = SIZE, spot: tuple[int, ...] | None = SPOT) -> bytes:
    found = Image.new("L", size, 0)
    if spot is not None:
        ImageDraw.Draw(found).ellipse(spot, fill=255)
    buffer = io.BytesIO()
    found.save(buffer, "PNG")
    return buffer.getvalue()


def opened(data: bytes | str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(data) if isinstance(data, str) else data))


def array(data: bytes | str) -> Any:
    return np.asarray(opened(data).convert("RGB")).astype(int)


def red_within(sent: dict[str, Any]) -> bytes:
    """As the worker does: the piece it got, red where its mask is white."""
    piece = opened(sent["images"][0]["image"]).convert("RGB")
    piece.paste((255, 0, 0), mask=opened(sent["mask"]).convert("L"))
    buffer = io.BytesIO()
    piece.save(buffer, "PNG")
    return buffer.getvalue()


def masked(data: bytes, mask_data: bytes, **more: Any) -> dict[str, Any]:
    return edit(images=[{"image": as_text(data)}], mask=as_text(mask_data), **more)


def run(gateway: TestGateway, data: bytes, mask_data: bytes, **more: Any) -> dict[str, Any]:
    answer = gateway.client.post("/api/queue/create", json=masked(data, mask_data, **more))
    assert answer.status_code == 200, answer.text
    (job,) = gateway.take()
    gateway.done(job["id"], success(red_within(job["input"])))
    return gateway.ended(job["id"])


def test_a_piece_around_the_mask_travels_as_an_ordinary_masked_job(gateway: TestGateway) -> None:
    gateway.create(images=[{"image": as_text(photo())}], mask=as_text(mask()))
    (job,) = gateway.take()
    sent = job["input"]
    (image,) = sent["images"]
    piece, area = opened(image["image"]), opened(sent["mask"])
    assert image["name"] == "crop.png"
    assert piece.size == area.size
    assert piece.size[0] * piece.size[1] < SIZE[0] * SIZE[1] / 2
    assert set(sent) == {"prompt", "seed", "request_id", "output", "images", "mask"}


@pytest.mark.parametrize(
    "data",
    [photo(), photo(kind="JPEG", quality=90), photo(kind="WEBP", quality=90)],
    ids=["png", "jpeg", "webp"],
)
def test_only_what_the_mask_allows_changes(gateway: TestGateway, data: bytes) -> None:
    status = run(gateway, data, mask())
    assert (status["status"], status["pixels_changed_outside"]) == ("succeeded", 0), status
    assert (status["width"], status["height"]) == SIZE
    result = gateway.client.get(status["result_url"])
    assert result.headers["content-type"] == "image/png"
    before, after = array(data), array(result.content)
    allowed = np.asarray(opened(mask())) >= 128
    changed = (before != after).any(axis=2)
    assert not (changed & ~allowed).any()
    assert (after[allowed] == (255, 0, 0)).all()


def test_a_photo_on_its_side_is_edited_upright(gateway: TestGateway) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = photo(kind="JPEG", exif=exif)
    upright = SIZE[::-1]
    status = run(gateway, data, mask(upright, (300, 500, 340, 560)))
    assert (status["width"], status["height"]) == upright
    assert status["pixels_changed_outside"] == 0


def test_a_mask_of_another_size_is_stretched(gateway: TestGateway) -> None:
    status = run(gateway, photo(), mask((90, 70), (60, 40, 64, 45)))
    assert (status["status"], status["pixels_changed_outside"]) == ("succeeded", 0)


def test_the_whole_photo_travels_where_the_model_is_to_see_it(gateway: TestGateway) -> None:
    data = photo()
    answer = gateway.client.post("/api/queue/create", json=masked(data, mask(), fit="whole"))
    assert answer.status_code == 200, answer.text
    (job,) = gateway.take()
    assert job["input"]["images"][0]["image"] == as_text(data)
    assert opened(job["input"]["mask"]).size == SIZE
    gateway.done(job["id"], success(red_within(job["input"])))
    assert gateway.ended(job["id"])["pixels_changed_outside"] == 0


def test_what_a_worker_changes_outside_the_mask_does_not_arrive(gateway: TestGateway) -> None:
    data = photo()
    gateway.client.post("/api/queue/create", json=masked(data, mask()))
    (job,) = gateway.take()
    size = opened(job["input"]["images"][0]["image"]).size
    buffer = io.BytesIO()
    Image.new("RGB", size, (0, 255, 0)).save(buffer, "PNG")
    gateway.done(job["id"], success(buffer.getvalue()))
    status = gateway.ended(job["id"])
    after = array(gateway.client.get(status["result_url"]).content)
    allowed = np.asarray(opened(mask())) >= 128
    assert ((array(data) != after).any(axis=2) <= allowed).all()


@pytest.mark.parametrize(
    ("said", "code"), [(7, "changed_outside_mask"), (None, "invalid_output"), (0, None)]
)
def test_a_worker_that_cuts_itself_must_prove_it(
    tmp_path: Path, said: int | None, code: str | None
) -> None:
    with running_gateway(tmp_path, gateway_attempts=1) as gateway:
        gateway.client.post("/api/queue/create", json=masked(photo(), mask(), ratio="1:1"))
        (job,) = gateway.take()
        assert job["input"]["ratio"] == "1:1"
        more = {} if said is None else {"pixels_changed_outside": said}
        gateway.done(job["id"], success(picture(), **more))
        error = gateway.ended(job["id"])["error"]
        assert (error and error["code"]) == code


def small_file_of(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def cut_off(piece: bytes) -> bytes:
    return piece[: len(piece) // 2]


def on_its_side(piece: bytes) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    opened(piece).save(buffer, "PNG", exif=exif)
    return buffer.getvalue()


def moving(piece: bytes) -> bytes:
    buffer = io.BytesIO()
    opened(piece).save(buffer, "PNG", save_all=True, append_images=[Image.new("RGB", SIZE)])
    return buffer.getvalue()


@pytest.mark.parametrize(
    "broken",
    [
        cut_off, on_its_side, moving, lambda piece: b"NaN" * 99, lambda piece: b"",
        lambda piece: picture("PNG", (1024, 1024)), lambda piece: small_file_of(40_000, 40_000),
    ],
    ids=["cut off", "turned", "moving", "junk", "nothing", "another size", "huge"],
)  # fmt: skip
def test_a_piece_that_is_not_the_asked_one_is_not_put_into_the_photo(
    tmp_path: Path, broken: Callable[[bytes], bytes]
) -> None:
    with running_gateway(tmp_path, gateway_attempts=1) as gateway:
        gateway.client.post("/api/queue/create", json=masked(photo(), mask()))
        (job,) = gateway.take()
        body = success(picture())
        body["output"]["images"][0]["data"] = as_text(broken(red_within(job["input"])))
        gateway.done(job["id"], body)
        assert gateway.ended(job["id"])["error"]["code"] == "invalid_output"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_result_that_is_cut_off_is_not_delivered(tmp_path: Path, kind: str) -> None:
    with running_gateway(tmp_path, gateway_attempts=1) as gateway:
        job_id = gateway.create()
        gateway.take()
        body = success(picture())
        body["output"]["images"][0]["data"] = as_text(cut_off(photo(kind=kind)))
        gateway.done(job_id, body)
        assert gateway.ended(job_id)["error"]["code"] == "invalid_output"


@pytest.mark.parametrize(
    "more",
    [
        {"fit": "whole"},
        {"options": {"edits": [{"category": "outfit_colour", "fields": {"colour": "red"}}]}},
    ],
    ids=["asked for", "by options"],
)
def test_a_photo_at_an_address_is_cut_by_the_worker_as_asked_for(
    gateway: TestGateway, more: dict[str, Any]
) -> None:
    body = masked(b"", mask(), **more) | {"images": [{"image": "https://example.com/a.png"}]}
    if "options" in more:
        del body["prompt"]
    answer = gateway.client.post("/api/queue/create", json=body)
    assert answer.status_code == 200, answer.text
    (job,) = gateway.take()
    wants_whole = "options" not in more or sees_whole_photo(more["options"])
    assert job["input"].get("fit") == ("whole" if wants_whole else None)


@pytest.mark.parametrize(
    "wish",
    [
        {"fit": "template", "mask": as_text(mask())},
        {"output": {"size": "model"}, "mask": as_text(mask())},
        {"fit": "crop"},
        {"fit": "extend"},
        {"fit": "whole"},
        {"fit": "template", "output": {"size": "photo"}},
        {"negative_prompt": "blur"},
    ],
)
def test_what_the_worker_would_refuse_is_refused_at_once(
    gateway: TestGateway, wish: dict[str, Any]
) -> None:
    answer = gateway.client.post("/api/queue/create", json=edit(**wish))
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert "input." not in answer.json()["message"]


@pytest.mark.parametrize(
    "body",
    [
        masked(photo(), mask(spot=None)),
        masked(photo(), mask(), output={"format": "jpeg"}),
        masked(photo(), b"no picture"),
        masked(photo(), mask()) | {"mask": "https://10.0.0.1/m.png"},
    ],
    ids=["empty", "jpeg", "junk", "private"],
)
def test_a_mask_that_can_not_be_used_is_refused_at_once(
    gateway: TestGateway, body: dict[str, Any], tmp_path: Path
) -> None:
    answer = gateway.client.post("/api/queue/create", json=body)
    assert answer.status_code == 400
    assert answer.json()["code"] in {"invalid_mask", "invalid_request", "invalid_image"}
    assert "mask" in answer.json()["message"]
    assert [path for path in (tmp_path / "objects").rglob("*") if path.is_file()] == []


def test_options_become_the_prompt_where_nothing_was_typed(gateway: TestGateway) -> None:
    options = {"edits": [{"category": "outfit_colour", "fields": {"colour": "red"}}]}
    compiled = gateway.client.post("/api/prompt/compile", json=options).json()
    assert compiled["ok"] is True
    assert "red" in compiled["prompt"]
    body = edit(options=options)
    del body["prompt"]
    job_id = gateway.client.post("/api/queue/create", json=body).json()["job_id"]
    assert gateway.take()[0]["input"]["prompt"] == compiled["prompt"]
    assert gateway.status(job_id)["prompt"] == compiled["prompt"]
    typed = gateway.create(options=options, prompt="as typed")
    assert gateway.status(typed)["prompt"] == "as typed"
    categories = gateway.client.get("/api/options").json()["categories"]
    assert "outfit_colour" in {category["id"] for category in categories}
    wrong_ones: list[dict[str, Any]] = [
        {"edits": [{"category": "no"}]},
        {"edits": []},
        {"edit": []},
    ]
    for wrong in wrong_ones:
        answer = gateway.client.post("/api/queue/create", json=body | {"options": wrong})
        assert answer.status_code == 400
