"""What the demo draws: everywhere where it may, and nowhere else."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from gateway.demo.picture import draw
from handler.errors import InvalidImage
from handler.pictures import read_photo
from tests.gateways import picture

SIZE = (160, 120)


def png(image: Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def mask_png(*box: int, size: tuple[int, int] = SIZE) -> bytes:
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).rectangle(box, fill=255)
    return png(mask)


def changed(before: bytes, after: bytes) -> Any:
    return (read_photo(before).pixels != read_photo(after).pixels).any(axis=2)


@pytest.mark.parametrize("size", [SIZE, (1600, 1200)])
def test_only_what_the_mask_allows_changes_and_nearly_all_of_it_does(size: tuple[int, int]) -> None:
    photo = picture(size=size)
    box = (size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2)
    drawn = draw(photo, mask_png(*box, size=size), seed=1)
    assert (drawn.width, drawn.height, drawn.changed_outside) == (*size, 0)
    differs = changed(photo, drawn.data)
    inside = np.zeros(size[::-1], dtype=bool)
    inside[box[1] : box[3] + 1, box[0] : box[2] + 1] = True
    assert not differs[~inside].any()
    assert differs[inside].mean() > 0.9


@pytest.mark.parametrize("color", ["black", "white", "#808080", "red"])
def test_a_change_is_seen_on_a_picture_of_one_colour(color: str) -> None:
    photo = png(Image.new("RGB", SIZE, color))
    drawn = draw(photo, None, seed=1)
    assert changed(photo, drawn.data).mean() > 0.8
    assert drawn.changed_outside is None
    middle = np.asarray(Image.open(io.BytesIO(drawn.data)).convert("RGB"))[50:70, 40:120]
    assert len(np.unique(middle.reshape(-1, 3), axis=0)) > 2


def test_another_seed_has_another_colour_and_the_same_seed_the_same_bytes() -> None:
    photo = picture(size=SIZE)
    first, again, other = (draw(photo, None, seed=seed).data for seed in (7, 7, 8))
    assert first == again
    assert changed(first, other).mean() > 0.7
    assert draw(photo, None, seed=2**64 - 1).data


def test_bits_alpha_and_profile_outside_the_mask_stay() -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (*SIZE[::-1], 4), dtype=np.uint8)
    profile = b"profile of a test" * 9
    photo = png(Image.fromarray(pixels), icc_profile=profile)
    drawn = draw(photo, mask_png(20, 20, 60, 60), seed=1)
    found = read_photo(drawn.data)
    assert drawn.changed_outside == 0
    assert found.icc_profile == profile
    assert (found.pixels[..., 3] == pixels[..., 3]).all()


def test_16_bits_stay_16_bits() -> None:
    grey = np.random.default_rng(1).integers(0, 65535, SIZE[::-1], dtype=np.uint16)
    photo = png(Image.fromarray(grey))
    drawn = draw(photo, mask_png(20, 20, 60, 60), seed=1)
    assert drawn.changed_outside == 0
    assert read_photo(drawn.data).pixels.dtype == np.uint16


@pytest.mark.parametrize(
    ("ratio", "size"), [("1:1", (120, 120)), ("16:9", (160, 90)), ("9:16", (68, 120))]
)
@pytest.mark.parametrize("mask", [None, mask_png(70, 50, 90, 70)], ids=["whole", "masked"])
def test_a_ratio_takes_the_middle(ratio: str, size: tuple[int, int], mask: bytes | None) -> None:
    drawn = draw(picture(size=SIZE), mask, seed=1, ratio=ratio)
    assert (drawn.width, drawn.height) == size
    assert drawn.changed_outside == (None if mask is None else 0)
    assert read_photo(drawn.data).size == size


@pytest.mark.parametrize(("encoding", "kind"), [("jpeg", "JPEG"), ("webp", "WEBP")])
def test_a_lossy_format_is_as_asked_and_proves_nothing(encoding: str, kind: str) -> None:
    drawn = draw(picture(size=SIZE), mask_png(9, 9, 60, 60), seed=1, encoding=encoding)
    assert Image.open(io.BytesIO(drawn.data)).format == kind
    assert drawn.changed_outside is None


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3)])
def test_the_smallest_pictures_are_drawn_too(size: tuple[int, int]) -> None:
    drawn = draw(picture(size=size), mask_png(0, 0, 0, 0, size=size), seed=1)
    assert drawn.changed_outside == 0
    assert draw(picture(size=size), None, seed=1, ratio="16:9").width >= 1


def test_an_empty_mask_and_a_broken_picture_are_refused() -> None:
    empty = png(Image.new("L", SIZE, 0))
    with pytest.raises(InvalidImage, match="empty"):
        draw(picture(size=SIZE), empty, seed=1)
    with pytest.raises(InvalidImage):
        draw(picture(size=SIZE)[:200], None, seed=1)
