"""The mask's promise, held to the bytes that are delivered, whoever drew them."""

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gateway.errors import ChangedOutsideMask
from gateway.objects import DiskObjects
from gateway.steps.outside import count_outside
from tests.gateways import as_text, picture, running_gateway, success
from tests.jobs import make_job

SIZE = (64, 48)
PHOTO = picture(size=SIZE)


def left_half() -> bytes:
    mask = Image.new("L", SIZE, 0)
    mask.paste(255, (0, 0, 32, 48))
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")
    return buffer.getvalue()


def edited(*dots: tuple[int, int], kind: str = "PNG") -> bytes:
    with Image.open(io.BytesIO(PHOTO)) as photo:
        for dot in dots:
            red, green, blue = photo.getpixel(dot)  # type: ignore[misc]
            photo.putpixel(dot, (red ^ 1, green, blue))
        buffer = io.BytesIO()
        photo.save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def objects(tmp_path: Path) -> DiskObjects:
    found = DiskObjects(tmp_path, 10**9)
    found.put("photo.png", PHOTO)
    found.put("mask.png", left_half())
    return found


def masked_job(**pictures: Any) -> Any:
    placed = {"images": [{"name": "a", "key": "photo.png"}], "mask": {"key": "mask.png"}}
    return make_job(pictures=placed | pictures)


def count(objects: DiskObjects, job: Any, data: bytes, counted: Any = None, **entry: Any) -> Any:
    objects.put("result", data)
    about = {
        "key": "result", "width": SIZE[0], "height": SIZE[1], "content_type": "image/png", **entry
    }  # fmt: skip
    return count_outside(job, about, objects, counted)


def test_a_change_inside_counts_nothing(objects: DiskObjects) -> None:
    assert count(objects, masked_job(), edited((3, 3), (31, 47))) == 0


def test_one_pixel_by_one_bit_outside_is_not_delivered(objects: DiskObjects) -> None:
    with pytest.raises(ChangedOutsideMask, match="2 pixels"):
        count(objects, masked_job(), edited((3, 3), (32, 0), (63, 47)), counted=0)


def test_without_a_mask_and_in_a_lossy_format_nothing_is_counted(objects: DiskObjects) -> None:
    assert count(objects, masked_job(mask=None), edited((63, 47)), counted=0) is None
    assert count(objects, make_job(), edited((63, 47))) is None
    jpeg = edited((3, 3), kind="JPEG")
    assert count(objects, masked_job(), jpeg, content_type="image/jpeg") is None


def test_where_a_ratio_made_another_picture_of_the_photo_the_workers_number_stands(
    objects: DiskObjects,
) -> None:
    square = picture(size=(48, 48))
    assert count(objects, masked_job(), square, 0, width=48) == 0
    assert count(objects, masked_job(), square, None, width=48) is None
    assert count(objects, masked_job(), square, "0", width=48) is None
    with pytest.raises(ChangedOutsideMask):
        count(objects, masked_job(), square, 7, width=48)


@pytest.mark.parametrize(("dot", "status"), [((3, 3), "succeeded"), ((40, 3), "failed")])
def test_a_workers_picture_is_delivered_only_when_it_keeps_the_promise(
    tmp_path: Path, dot: tuple[int, int], status: str
) -> None:
    with running_gateway(tmp_path, gateway_credits="test") as gateway:
        job_id = gateway.create(images=[{"image": as_text(PHOTO)}], mask=as_text(left_half()))
        gateway.take()
        assert gateway.done(job_id, success(edited(dot))) == 200
        ended = gateway.ended(job_id)
        assert ended["status"] == status
        if status == "succeeded":
            assert ended["pixels_changed_outside"] == 0
        else:
            assert ended["error"]["code"] == "changed_outside_mask"
            assert ended["result_url"] is None
            assert ended["credits"]["state"] == "released"
