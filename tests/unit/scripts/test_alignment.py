import pytest
from PIL import Image, ImageDraw, ImageEnhance

from handler.settings import PROJECT_DIR
from scripts.alignment import edge, offset

SIZE = (900, 600)
with Image.open(PROJECT_DIR / "examples" / "portrait.jpg") as opened:
    PHOTO = opened.convert("RGB").resize(SIZE, Image.Resampling.LANCZOS)


def moved(right: float, down: float, zoom: float = 1.0) -> Image.Image:
    """Enlarged around the middle, then moved."""
    width, height = SIZE
    left, top = width / 2 * (1 - 1 / zoom) - right / zoom, height / 2 * (1 - 1 / zoom) - down / zoom
    return PHOTO.transform(
        SIZE, Image.Transform.AFFINE, (1 / zoom, 0, left, 0, 1 / zoom, top),
        Image.Resampling.BICUBIC,
    )  # fmt: skip


@pytest.mark.parametrize(("right", "down"), [(0, 0), (5, -3), (-1.5, 0.5), (12.25, 7)])
def test_a_shift_is_found_to_a_quarter_of_a_pixel(right: float, down: float) -> None:
    found = offset(PHOTO, ImageEnhance.Brightness(moved(right, down)).enhance(0.7))
    assert found.right == pytest.approx(right, abs=0.25)
    assert found.down == pytest.approx(down, abs=0.25)


@pytest.mark.parametrize("zoom", [0.99, 1.0, 1.01, 1.02])
def test_a_zoom_is_found_to_a_third_of_a_percent(zoom: float) -> None:
    found = offset(PHOTO, moved(0, 0, zoom))
    assert found.zoom_percent == pytest.approx(100 * (zoom - 1), abs=0.3)


def test_a_photo_of_another_size_is_brought_to_the_edits() -> None:
    found = offset(PHOTO, moved(6, 0).resize((450, 300), Image.Resampling.LANCZOS))
    assert found.right == pytest.approx(3, abs=0.25)


def test_the_same_picture_has_a_higher_peak_than_another() -> None:
    other = Image.effect_noise(SIZE, 90).convert("RGB")
    assert offset(PHOTO, PHOTO).peak > 0.9
    assert offset(PHOTO, other).peak < 0.1


def test_a_tint_and_a_seam_show_at_the_masks_edge() -> None:
    mask = Image.new("L", SIZE)
    ImageDraw.Draw(mask).ellipse((200, 100, 700, 500), fill=255)
    assert edge(PHOTO, PHOTO, mask) == edge(PHOTO, PHOTO.copy(), mask)
    assert edge(PHOTO, PHOTO, mask).inside == 0
    redder = Image.merge("RGB", [PHOTO.getchannel(0).point(lambda v: min(255, v + 20)),
                                 PHOTO.getchannel(1), PHOTO.getchannel(2)])  # fmt: skip
    found = edge(PHOTO, Image.composite(redder, PHOTO, mask), mask)
    assert found.tint[0] == pytest.approx(20, abs=5)
    assert found.tint[1:] == (0, 0)
    assert found.step > 1
