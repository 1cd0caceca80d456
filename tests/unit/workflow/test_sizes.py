import math
from fractions import Fraction
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.contract.input_types import Ratio
from handler.workflow.sizes import (
    RATIO_SIZES,
    aligned_size,
    cropped_to,
    extended_to,
    piece_size,
    template_size,
)

# Of cameras, phones, screens, paper and film, and odd ones; each is tried upright and on its side.
RATIOS = (
    (1, 1), (5, 4), (4, 3), (7, 5), (3, 2), (8, 5), (5, 3), (16, 9), (2, 1), (19.5, 9), (20, 9),
    (21, 9), (64, 27), (12, 5), (3, 1), (65, 24), (1.0001, 1), (297, 210), (1.85, 1), (4, 1),
    (10, 1),
)  # fmt: skip
PHOTOS = [
    (round(1500 * a / b), 1500) if turned else (1500, round(1500 * a / b))
    for a, b in RATIOS
    for turned in (False, True)
]
SIDES = st.integers(1, 20_000)


@pytest.mark.parametrize("photo", PHOTOS)
def test_a_photo_is_sampled_on_the_models_grid_near_a_megapixel_and_hardly_stretched(
    photo: tuple[int, int],
) -> None:
    width, height = aligned_size(*photo)
    assert width % 16 == height % 16 == 0
    assert 0.8 < width * height / 1024**2 < 1.22
    assert abs(math.log(width / height * photo[1] / photo[0])) < 0.01


@given(SIDES, SIDES)
def test_any_photo_has_a_size(width: int, height: int) -> None:
    size = aligned_size(width, height)
    assert all(side % 16 == 0 and side >= 16 for side in size)
    assert size[0] * size[1] < 1.25 * 1024**2
    assert size == aligned_size(height, width)[::-1]


@pytest.mark.parametrize(
    ("piece", "expected"),
    [((256, 256), (768, 768)), ((1057, 1018), (1040, 1008)), ((4000, 3000), (1152, 864)),
     ((10, 10), (256, 256))],
)  # fmt: skip
def test_a_piece_is_enlarged_threefold_at_most(
    piece: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert piece_size(*piece) == expected


@pytest.mark.parametrize("ratio", get_args(Ratio))
def test_a_ratio_is_exact_and_near_a_megapixel(ratio: Ratio) -> None:
    width, height = RATIO_SIZES[ratio]
    across, down = map(int, ratio.split(":"))
    assert width * down == height * across
    assert 0.85e6 < width * height < 1.1e6
    assert width % 16 == height % 16 == 0


@pytest.mark.parametrize(
    ("size", "expected"),
    [((512, 512), (1024, 1024)), ((1920, 1080), (1392, 752)), ((10, 1000), (672, 1568)),
     ((3000, 2000), (1248, 832)), ((2000, 3000), (832, 1248))],
)  # fmt: skip
def test_the_templates_size_is_the_one_that_its_scale_node_chooses(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert template_size(*size) == expected


@given(st.sampled_from(get_args(Ratio)), SIDES, SIDES)
def test_a_crop_lies_within_the_photo_and_an_extension_around_it(
    ratio: Ratio, width: int, height: int
) -> None:
    across, down = map(int, ratio.split(":"))
    crop, canvas = cropped_to(ratio, width, height), extended_to(ratio, width, height)
    assert 0 <= crop.left <= crop.left + crop.width <= width
    assert 0 <= crop.top <= crop.top + crop.height <= height
    assert canvas.left <= 0 <= width <= canvas.left + canvas.width
    assert canvas.top <= 0 <= height <= canvas.top + canvas.height
    for window in (crop, canvas):
        # To within the rounding of its shorter side.
        off = Fraction(window.width * down, window.height * across)
        assert abs(off - 1) <= Fraction(1, min(window.width, window.height))


def test_a_photo_of_the_ratio_is_neither_cropped_nor_extended() -> None:
    assert cropped_to("4:3", 4032, 3024) == (0, 0, 4032, 3024)
    assert extended_to("4:3", 4032, 3024) == (0, 0, 4032, 3024)


def test_what_is_cropped_and_added_is_even() -> None:
    assert cropped_to("1:1", 3000, 2000) == (500, 0, 2000, 2000)
    assert extended_to("1:1", 3000, 2000) == (0, -500, 3000, 3000)
