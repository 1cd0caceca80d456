import numpy as np
import pytest

from handler.errors import InvalidInput
from handler.pictures.canvas import extend
from handler.pictures.photo import Photo

MAKE = np.random.default_rng(5)


def test_the_photo_lies_unchanged_on_its_canvas_and_goes_on_beyond_its_edges() -> None:
    photo = Photo(MAKE.integers(0, 255, (20, 30, 3), dtype=np.uint8), b"profile")
    canvas = extend(photo, 5, 10, 40, 50)
    assert canvas.photo.size == canvas.shown.size == (40, 50)
    for on in (canvas.photo, canvas.shown):
        assert np.array_equal(on.pixels[10:30, 5:35], photo.pixels)
    assert np.array_equal(canvas.photo.pixels[0, 5:35], photo.pixels[0])
    assert np.array_equal(canvas.photo.pixels[10:30, 39], photo.pixels[:, 29])
    assert canvas.photo.icc_profile == b"profile"


def test_what_is_added_is_grey_to_a_model_and_opaque_to_a_caller() -> None:
    photo = Photo(np.zeros((20, 30, 4), dtype=np.uint16))
    canvas = extend(photo, 0, 0, 30, 25)
    assert canvas.added.sum() == 5 * 30
    assert np.unique(canvas.shown.pixels[canvas.added]).tolist() == [127]
    assert np.unique(canvas.photo.pixels[canvas.added][:, 3]).tolist() == [65535]
    assert not canvas.photo.pixels[~canvas.added].any()


def test_a_canvas_that_would_fill_memory_is_refused() -> None:
    photo = Photo(np.zeros((1, 10, 3), dtype=np.uint8))
    with pytest.raises(InvalidInput, match="over the limit"):
        extend(photo, 0, 0, 10_000, 10_000)
