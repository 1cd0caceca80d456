import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from handler.pictures import feather
from handler.pictures.feather import Box, around, feather_alpha, noise_mask


def box_mask(width: int, height: int, *boxes: Box) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), dtype=np.bool_)
    for box in boxes:
        mask[box.rows, box.columns] = True
    return mask


def test_a_patch_fades_in_evenly_from_the_edge_inwards() -> None:
    alpha = feather_alpha(box_mask(400, 400, Box(100, 100, 300, 300)))
    row = alpha[200].astype(int)
    assert row[99] == 0
    assert 0 < row[100] <= 16
    assert row[115] == row[200] == 255
    assert set(np.diff(row[99:116])) <= {15, 16}
    assert np.array_equal(row, row[::-1])


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_it_is_nothing_outside_and_something_everywhere_inside(data: st.DataObject) -> None:
    width, height = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
    share = data.draw(st.floats(0, 1))
    mask = np.random.default_rng(data.draw(st.integers(0, 99))).random((height, width)) < share
    alpha = feather_alpha(mask)
    assert np.array_equal(alpha > 0, mask)


def test_a_thin_stroke_is_drawn_in_full_along_its_middle() -> None:
    for thickness in (1, 2, 3, 5, 9, 17):
        alpha = feather_alpha(box_mask(300, 100, Box(30, 40, 270, 40 + thickness)))
        assert alpha[:, 150].max() == 255
        assert alpha[40 + thickness // 2, 60:240].min() == 255


def test_a_thin_stroke_beside_a_large_place_is_drawn_in_full() -> None:
    alpha = feather_alpha(box_mask(300, 300, Box(20, 20, 280, 200), Box(20, 203, 280, 206)))
    assert alpha[204, 100] == 255
    assert alpha[110, 100] == 255
    assert alpha[20, 100] <= 16


def test_a_ragged_edge_fades_as_a_smooth_one() -> None:
    mask = box_mask(200, 200, Box(50, 50, 150, 150))
    mask[49, 50:150:2] = True
    assert feather_alpha(mask)[49].max() <= 32


def test_nothing_fades_at_the_photos_own_edge() -> None:
    alpha = feather_alpha(box_mask(200, 200, Box(0, 0, 100, 100)))
    assert alpha[:80, :80].min() == 255
    assert 0 < alpha[50, 99] <= 16


def test_strips_do_not_show() -> None:
    mask = np.random.default_rng(3).random((900, 90)) < 0.98
    mask[:, 30:60] = True
    alpha = feather_alpha(mask)
    whole = feather._ramp(mask, 16)
    assert len(mask) > feather.STRIP
    assert np.array_equal(alpha, whole)


def test_an_empty_mask_lies_nowhere() -> None:
    assert around(np.zeros((4, 5), dtype=np.bool_)) is None
    assert not feather_alpha(np.zeros((4, 5), dtype=np.bool_)).any()


def test_a_sampler_draws_all_that_is_pasted_and_more_around_it() -> None:
    mask = box_mask(4000, 3000, Box(1000, 1000, 1001, 1001))
    wide = noise_mask(mask, (400, 300), 24)
    assert around(wide) == Box(100 - 24, 100 - 24, 101 + 24, 101 + 24)
    assert noise_mask(mask, (400, 300), 0).sum() == 1
