import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import ExifTags, Image

from handler.errors import InvalidImage
from handler.pictures.feather import Box
from handler.pictures.mask import changed_outside, cut, mask_png, paste, read_mask
from handler.pictures.photo import Photo, read_photo

MAKE = np.random.default_rng(12)


def noise(width: int, height: int, channels: int = 3, dtype: Any = np.uint8) -> Photo:
    top = np.iinfo(dtype).max
    return Photo(MAKE.integers(0, top, (height, width, channels), dtype=dtype, endpoint=True))


def box_mask(size: tuple[int, int], *boxes: Box) -> NDArray[np.bool_]:
    mask = np.zeros(size[::-1], dtype=np.bool_)
    for box in boxes:
        mask[box.rows, box.columns] = True
    return mask


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@st.composite
def masked_photos(draw: st.DrawFn) -> tuple[Photo, NDArray[np.bool_]]:
    """Photos of any channels and depth; masks of boxes and of single pixels, never empty."""
    width, height = draw(st.integers(1, 700)), draw(st.integers(1, 700))
    photo = noise(
        width, height, draw(st.integers(1, 4)), draw(st.sampled_from([np.uint8, np.uint16]))
    )
    mask = np.zeros((height, width), dtype=np.bool_)
    for _ in range(draw(st.integers(1, 4))):
        x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        mask[y : y + draw(st.integers(1, 300)), x : x + draw(st.integers(1, 300))] = True
    if draw(st.booleans()):
        mask &= MAKE.random(mask.shape) < 0.5
        mask[draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))] = True
    return photo, mask


@settings(max_examples=60, deadline=None)
@given(masked_photos(), st.integers(1, 400), st.integers(1, 400), st.booleans())
def test_whatever_the_photo_the_mask_and_the_patch_no_pixel_outside_changes(
    masked: tuple[Photo, NDArray[np.bool_]], width: int, height: int, whole: bool
) -> None:
    photo, mask = masked
    before = photo.pixels.copy()
    piece = cut(photo, mask, whole=whole)
    result, changed = paste(photo, noise(width, height), mask, piece.box)
    assert changed == 0
    assert np.array_equal(result.pixels[~mask], before[~mask])
    assert np.array_equal(photo.pixels, before)
    assert result.pixels.dtype == before.dtype


@settings(max_examples=60, deadline=None)
@given(masked_photos())
def test_a_piece_cut_again_stays_whole(masked: tuple[Photo, NDArray[np.bool_]]) -> None:
    piece = cut(*masked)
    again = cut(piece.crop, piece.mask)
    assert again.box == Box(0, 0, *piece.crop.size)
    assert np.array_equal(again.mask, piece.mask)


@settings(max_examples=40, deadline=None)
@given(masked_photos())
def test_a_piece_that_was_pasted_apart_comes_back_as_if_pasted_in_place(
    masked: tuple[Photo, NDArray[np.bool_]],
) -> None:
    photo, mask = masked
    piece = cut(photo, mask)
    patch = noise(*piece.box.size)
    apart = paste(piece.crop, patch, piece.mask).photo
    result, changed = paste(photo, apart, mask, piece.box, feather=False)
    assert changed == 0
    # A patch of 8 bits has none of the others to give back.
    if photo.pixels.dtype == np.uint8 or photo.pixels.shape[2] in {1, 3}:
        assert np.array_equal(result.pixels, paste(photo, patch, mask, piece.box).photo.pixels)


@settings(max_examples=40, deadline=None)
@given(masked_photos())
def test_a_piece_holds_all_of_its_mask_and_context_around_it(
    masked: tuple[Photo, NDArray[np.bool_]],
) -> None:
    photo, mask = masked
    crop, cropped, box = cut(photo, mask)
    assert cropped.sum() == mask.sum()
    assert np.array_equal(crop.pixels, photo.pixels[box.rows, box.columns])
    assert 0 <= box.left < box.right <= photo.size[0]
    assert 0 <= box.top < box.bottom <= photo.size[1]
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    for start, end, begin, stop, most in (
        (columns[0], columns[-1] + 1, box.left, box.right, photo.size[0]),
        (rows[0], rows[-1] + 1, box.top, box.bottom, photo.size[1]),
    ):
        assert start - begin >= 64 or begin == 0
        assert stop - end >= 64 or stop == most
        assert stop - begin >= min(256, most)


def test_a_small_mask_in_a_large_photo_takes_a_small_piece() -> None:
    photo = noise(4000, 3000)
    box = cut(photo, box_mask(photo.size, Box(2000, 1000, 2400, 1200))).box
    assert box == Box(1800, 800, 2600, 1400)


def test_a_piece_is_pushed_back_into_the_photo_so_that_it_keeps_its_context() -> None:
    photo = noise(2000, 1500)
    box = cut(photo, box_mask(photo.size, Box(1700, 1300, 2000, 1500))).box
    assert box == Box(1400, 1000, 2000, 1500)


def test_a_long_stroke_gets_a_piece_of_a_ratio_that_the_model_knows() -> None:
    photo = noise(4000, 3000)
    width, height = cut(photo, box_mask(photo.size, Box(500, 1500, 2000, 1510))).box.size
    assert width / height <= 2.2


def test_several_places_are_in_one_piece() -> None:
    photo = noise(4000, 3000)
    mask = box_mask(photo.size, Box(1000, 1000, 1100, 1100), Box(1800, 1600, 1900, 1700))
    piece = cut(photo, mask)
    assert piece.mask.sum() == 20_000
    result, changed = paste(photo, noise(800, 700), mask, piece.box)
    assert changed == 0
    assert (result.pixels[1050, 1050] != photo.pixels[1050, 1050]).any()
    assert (result.pixels[1650, 1850] != photo.pixels[1650, 1850]).any()
    assert np.array_equal(result.pixels[1350, 1450], photo.pixels[1350, 1450])


def test_a_mask_over_most_of_the_photo_takes_all_of_it() -> None:
    photo = noise(1600, 1067)
    piece = cut(photo, box_mask(photo.size, Box(200, 100, 1500, 1000)))
    assert piece.box == Box(0, 0, 1600, 1067)


def test_a_caller_can_have_the_model_see_the_whole_photo() -> None:
    photo = noise(1600, 1067)
    piece = cut(photo, box_mask(photo.size, Box(200, 100, 210, 110)), whole=True)
    assert piece.box == Box(0, 0, 1600, 1067)


def test_an_empty_mask_is_refused() -> None:
    with pytest.raises(InvalidImage, match="the mask is empty") as refused:
        cut(noise(30, 20), np.zeros((20, 30), dtype=np.bool_))
    assert refused.value.code == "invalid_image"


def test_a_full_mask_is_the_whole_picture_without_a_fade_at_its_edges() -> None:
    photo, patch = noise(300, 200), noise(300, 200)
    mask = np.ones((200, 300), dtype=np.bool_)
    result, changed = paste(photo, patch, mask, cut(photo, mask).box)
    assert changed == 0
    assert np.array_equal(result.pixels, patch.pixels)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_photo_keeps_its_channels_its_depth_its_alpha_and_its_profile(
    channels: int, dtype: Any
) -> None:
    photo = Photo(noise(400, 300, channels, dtype).pixels, b"profile")
    mask = box_mask(photo.size, Box(100, 100, 200, 200))
    result = paste(photo, noise(100, 75), mask).photo
    assert result.icc_profile == b"profile"
    assert result.pixels.shape == photo.pixels.shape
    assert result.pixels.dtype == dtype
    if channels in {2, 4}:
        assert np.array_equal(result.pixels[..., -1], photo.pixels[..., -1])
    assert (result.pixels[120:180, 120:180, 0] != photo.pixels[120:180, 120:180, 0]).mean() > 0.9


def test_a_change_outside_is_counted_by_the_pixel() -> None:
    photo = noise(100, 80)
    mask = box_mask(photo.size, Box(10, 10, 20, 20))
    pixels = photo.pixels.copy()
    pixels[5, 5, 0] ^= 1
    pixels[6, 6] ^= 255
    pixels[15, 15] ^= 255
    assert changed_outside(photo, Photo(pixels), mask) == 2
    assert changed_outside(photo, noise(80, 100), mask) == 8000 - 100


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_mask_of_any_mode_is_white_where_it_is_white(mode: str) -> None:
    grey = np.array([[0, 255], [100, 200]], dtype=np.uint8)
    picture = (
        Image.fromarray(grey.astype(np.uint16) * 257)
        if mode == "I;16"
        else Image.fromarray(grey).convert(mode, dither=Image.Dither.NONE)
    )
    assert read_mask(encoded(picture), (2, 2)).tolist() == [[False, True], [False, True]]


def test_what_is_transparent_in_a_mask_is_not_white() -> None:
    picture = Image.new("RGBA", (2, 1), (255, 255, 255, 0))
    picture.putpixel((1, 0), (255, 255, 255, 255))
    assert read_mask(encoded(picture), (2, 1)).tolist() == [[False, True]]


def test_a_mask_of_another_size_is_stretched_over_the_photo_without_greys() -> None:
    picture = Image.new("L", (4, 2))
    picture.putpixel((3, 1), 255)
    mask = read_mask(encoded(picture), (400, 100))
    assert np.array_equal(mask, box_mask((400, 100), Box(300, 50, 400, 100)))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_white_pixel_of_a_mask_of_another_size_is_lost(data: st.DataObject) -> None:
    width, height, x_size, y_size = (data.draw(st.integers(1, 40)) for _ in range(4))
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    picture = Image.new("L", (width, height))
    picture.putpixel((x, y), 255)
    mask = read_mask(encoded(picture), (x_size, y_size))
    assert mask.any()
    for found, place, given_side, side in (
        (mask.any(axis=0), x, width, x_size), (mask.any(axis=1), y, height, y_size),
    ):  # fmt: skip
        # The middle of the lesser pixel lies in the larger one.
        if side <= given_side:
            expected = [(2 * place + 1) * side // (2 * given_side)]
        else:
            expected = [i for i in range(side) if (2 * i + 1) * given_side // (2 * side) == place]
        assert np.flatnonzero(found).tolist() == expected


def test_a_thin_stroke_in_a_mask_that_is_larger_than_the_photo_stays_whole() -> None:
    picture = Image.new("L", (3000, 2000))
    picture.paste(255, (100, 1003, 2900, 1004))
    mask = read_mask(encoded(picture), (600, 400))
    assert np.array_equal(mask, box_mask((600, 400), Box(20, 200, 580, 201)))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_mask_that_moves_is_refused(kind: str) -> None:
    black, white = (Image.new("RGB", (4, 4), name) for name in ("black", "white"))
    data = encoded(white, kind, save_all=True, append_images=[black])
    with pytest.raises(InvalidImage, match="animated"):
        read_mask(data, (4, 4))


def test_a_mask_is_turned_as_its_exif_data_asks_for() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    picture = Image.new("L", (2, 1))
    picture.putpixel((0, 0), 255)
    assert read_mask(encoded(picture, exif=exif), (1, 2)).tolist() == [[True], [False]]


def test_a_mask_reads_as_it_was_written() -> None:
    mask = MAKE.random((70, 130)) < 0.5
    assert np.array_equal(read_mask(mask_png(mask), (130, 70)), mask)


def test_a_mask_that_is_cut_off_is_refused() -> None:
    data = mask_png(MAKE.random((70, 130)) < 0.5)
    with pytest.raises(InvalidImage, match="mask is broken"):
        read_mask(data[: len(data) // 2], (130, 70))


def test_a_pasted_photo_is_the_callers_outside_also_in_its_file() -> None:
    photo = read_photo(encoded(Image.fromarray(noise(900, 600).pixels), "JPEG", quality=80))
    mask = box_mask(photo.size, Box(300, 200, 400, 320))
    result = read_photo(paste(photo, noise(200, 200), mask, cut(photo, mask).box).photo.as_png())
    assert changed_outside(photo, result, mask) == 0
    assert (result.pixels[mask] != photo.pixels[mask]).any(axis=1).mean() > 0.9
