"""Edits that keep the photo's own pixels, through the whole worker on the scale models.

The photos are small, so that a piece of them is sampled at a fraction of a megapixel.
"""

import base64
import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from handler.pictures.photo import Photo, read_photo
from tests.fakes.runpod_api import RunPodApi

RESULT_S = 240
MAKE = np.random.default_rng(4)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
pytestmark = pytest.mark.usefixtures("worker")


def noise(width: int, height: int, channels: int = 3, dtype: Any = np.uint8) -> Photo:
    top = np.iinfo(dtype).max
    pixels = MAKE.integers(0, top, (height, width, channels), dtype=dtype, endpoint=True)
    return Photo(pixels, SRGB)


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def mask_of(area: NDArray[np.bool_], kind: str = "PNG") -> str:
    buffer = io.BytesIO()
    Image.fromarray(area).convert("L").save(buffer, kind)
    return base64_of(buffer.getvalue())


def answer_to(api: RunPodApi, photo: bytes, **job_input: Any) -> dict[str, Any]:
    job = {
        "prompt": "make it red", "steps": 1, "seed": 5,
        "images": [{"name": "photo.png", "image": base64_of(photo)}], **job_input,
    }  # fmt: skip
    body = api.result(api.submit(job), RESULT_S)
    assert "error" not in body, body
    return dict(body["output"])


def photo_of(answer: dict[str, Any]) -> Photo:
    return read_photo(base64.b64decode(answer["image_base64"]))


def areas() -> dict[str, NDArray[np.bool_]]:
    """Thin strokes, several places, one at the edges, one that is not much smaller than all."""
    strokes, places, corner, most = (np.zeros((130, 200), dtype=np.bool_) for _ in range(4))
    strokes[50:52, 20:180] = strokes[60:120, 30] = True
    places[20:40, 20:60] = places[100:115, 150:190] = True
    corner[100:, 170:] = True
    most[5:125, 5:195] = True
    return {"strokes": strokes, "places": places, "corner": corner, "most": most}


@pytest.mark.parametrize("name", areas())
def test_no_pixel_outside_a_mask_changes_and_those_inside_do(api: RunPodApi, name: str) -> None:
    photo, area = noise(200, 130), areas()[name]
    answer = answer_to(api, photo.as_png(), mask=mask_of(area))
    assert answer["pixels_changed_outside"] == 0
    assert answer["graph"] == "aligned-1"
    result = photo_of(answer)
    assert result.icc_profile == SRGB
    assert np.array_equal(result.pixels[~area], photo.pixels[~area])
    assert (result.pixels[area] != photo.pixels[area]).any(axis=1).mean() > 0.8


@pytest.mark.parametrize(("channels", "dtype"), [(4, np.uint8), (3, np.uint16), (1, np.uint8)])
def test_alpha_depth_and_greys_are_kept(api: RunPodApi, channels: int, dtype: Any) -> None:
    photo, area = noise(120, 80, channels, dtype), np.zeros((80, 120), dtype=np.bool_)
    area[20:60, 30:90] = True
    # The mask comes in half the size, and as a JPEG.
    half = np.zeros((40, 60), dtype=np.bool_)
    half[10:30, 15:45] = True
    result = photo_of(answer_to(api, photo.as_png(), mask=mask_of(half, "JPEG")))
    assert result.pixels.dtype == dtype
    assert np.array_equal(result.pixels[~area], photo.pixels[~area])
    if channels == 4:
        assert np.array_equal(result.pixels[..., 3], photo.pixels[..., 3])
    assert (result.pixels[area] != photo.pixels[area]).any()


def test_a_full_mask_is_the_edit_of_the_whole_picture(api: RunPodApi) -> None:
    photo = noise(96, 64)
    answer = answer_to(api, photo.as_png(), mask=mask_of(np.ones((64, 96), dtype=np.bool_)))
    assert answer["pixels_changed_outside"] == 0
    result = photo_of(answer)
    assert result.size == (96, 64)
    assert (result.pixels != photo.pixels).any(axis=2).mean() > 0.95


def test_an_empty_mask_is_refused_before_the_gpu_is_touched(api: RunPodApi) -> None:
    job = {
        "prompt": "x", "mask": mask_of(np.zeros((8, 8), dtype=np.bool_)),
        "images": [{"name": "a.png", "image": base64_of(noise(8, 8).as_png())}],
    }  # fmt: skip
    output = api.result(api.submit(job), RESULT_S)["output"]
    assert output["code"] == "invalid_image"
    assert "empty" in output["message"]


def test_a_lossy_format_makes_no_claim(api: RunPodApi) -> None:
    area = np.zeros((80, 120), dtype=np.bool_)
    area[20:60, 30:90] = True
    answer = answer_to(api, noise(120, 80).as_png(), mask=mask_of(area), output={"format": "jpeg"})
    assert "pixels_changed_outside" not in answer
    with Image.open(io.BytesIO(base64.b64decode(answer["image_base64"]))) as picture:
        assert (picture.format, picture.size) == ("JPEG", (120, 80))
        assert picture.info["icc_profile"] == SRGB


def test_an_extended_photo_is_drawn_around_and_kept(api: RunPodApi) -> None:
    photo = noise(120, 60)
    answer = answer_to(api, photo.as_png(), ratio="1:1", fit="extend")
    result = photo_of(answer)
    assert result.size == (120, 120)
    assert np.array_equal(result.pixels[30:90], photo.pixels)
    assert answer["pixels_changed_outside"] == 0
    assert len(np.unique(result.pixels[:30])) > 10


def test_an_edit_can_have_the_photos_own_size(api: RunPodApi) -> None:
    answer = answer_to(api, noise(90, 90).as_png(), output={"size": "photo"})
    assert photo_of(answer).size == (90, 90)
    assert photo_of(answer).icc_profile == SRGB
    assert (answer["images"][0]["width"], answer["images"][0]["height"]) == (90, 90)
    assert "pixels_changed_outside" not in answer
