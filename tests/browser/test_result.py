"""The result: compared, downloaded, taken further."""

import io
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.visitor import TIMES, Visitor, jpeg, png


@pytest.fixture
def finished(visitor: Visitor) -> Visitor:
    """A red photo whose edit is teal, 512 by 512."""
    file = io.BytesIO()
    Image.new("RGB", (512, 512), "red").save(file, "JPEG", quality=95)
    visitor.give_photo(file.getvalue(), "ทะเล beach.JPG")
    visitor.is_in("ready")
    visitor.press("mask-whole")
    visitor.say("Make it teal")
    visitor.generate()
    visitor.is_in("queued")
    visitor.finish(png())
    return visitor


def seen(visitor: Visitor, *shares: float) -> list[str]:
    """The colours on the screen, at these shares of the photo's width."""
    box = visitor.page.locator("#photo").bounding_box()
    assert box
    expect(visitor.get("result")).to_have_js_property("complete", True)
    shot = Image.open(io.BytesIO(visitor.page.screenshot())).convert("RGB")
    found = []
    for share in shares:
        x, y = box["x"] + share * box["width"], box["y"] + 0.8 * box["height"]
        red, _, blue = shot.getpixel((int(x), int(y)))  # type: ignore[misc]
        found.append("before" if red > blue else "after")
    return found


def test_the_slider_is_aligned_to_the_pixel_and_moves_by_keys(finished: Visitor) -> None:
    assert seen(finished, 0.1, 0.4, 0.6, 0.9) == ["before", "before", "after", "after"]
    assert finished.get("photo").bounding_box() == finished.get("result").bounding_box()
    finished.get("compare").focus()
    finished.page.keyboard.press("Home")
    assert seen(finished, 0.1, 0.9) == ["after", "after"]
    finished.page.keyboard.press("End")
    assert seen(finished, 0.1, 0.9) == ["before", "before"]


def test_the_slider_moves_by_a_drag_on_the_picture_and_before_is_held(finished: Visitor) -> None:
    finished.drag((256, 256), (410, 256))
    assert float(finished.get("compare").input_value()) == pytest.approx(80, abs=1)
    assert seen(finished, 0.7, 0.9) == ["before", "after"]
    finished.get("peek").hover()
    finished.page.mouse.down()
    assert seen(finished, 0.9) == ["before"]
    finished.page.mouse.up()
    assert seen(finished, 0.9) == ["after"]


def test_zoom_is_the_same_on_both(finished: Visitor) -> None:
    finished.press("zoom-in")
    finished.press("zoom-in")
    assert finished.get("photo").bounding_box() == finished.get("result").bounding_box()
    finished.press("zoom-fit")
    assert seen(finished, 0.1, 0.9) == ["before", "after"]


def test_a_download_is_the_very_file_named_after_the_photo(finished: Visitor) -> None:
    with finished.page.expect_download() as png_download:
        finished.press("download-png")
    assert png_download.value.suggested_filename == "ทะเล beach-edited.png"
    assert Path(png_download.value.path()).read_bytes() == png()
    with finished.page.expect_download() as jpeg_download:
        finished.press("download-jpg")
    assert jpeg_download.value.suggested_filename == "ทะเล beach-edited.jpg"
    with Image.open(jpeg_download.value.path()) as image:
        assert (image.format, image.size) == ("JPEG", (512, 512))


def test_a_result_becomes_the_next_photo(finished: Visitor) -> None:
    finished.press("onward")
    finished.is_in("ready")
    assert finished.strokes() == []
    finished.drag((100, 100))
    finished.generate()
    finished.is_in("queued")
    with Image.open(io.BytesIO(list(finished.gateway.uploads.values())[-1])) as image:
        red, _, blue = image.getpixel((5, 5))  # type: ignore[misc]
    assert blue > red
    finished.finish(png(colour="navy"))
    finished.sees("proof", "0 pixels changed outside")


def test_the_history_shows_former_results_with_their_own_before(finished: Visitor) -> None:
    finished.press("change")
    finished.is_in("ready")
    finished.page.locator("[data-see=change] input").set_input_files(
        {"name": "two.jpg", "mimeType": "image/jpeg", "buffer": jpeg((300, 200))}
    )
    expect(finished.page.locator("#plate")).to_have_js_property("offsetWidth", 300)
    finished.is_in("ready")
    finished.press("mask-whole")
    finished.generate()
    finished.is_in("queued")
    finished.finish(png((300, 200), "navy"))
    expect(finished.page.locator("#history button")).to_have_count(2)
    finished.page.locator("#history button").last.click()
    finished.sees("proof", f"512 {TIMES} 512")
    assert seen(finished, 0.1, 0.9) == ["before", "after"]
    finished.page.reload()
    finished.is_in("ready")
    finished.page.locator("#history button").first.click()
    finished.is_in("done")
    finished.sees("proof", f"300 {TIMES} 200")


def test_a_result_of_another_shape_is_shown_whole(finished: Visitor) -> None:
    finished.press("change")
    finished.get("ratio").select_option("16:9")
    finished.generate()
    finished.is_in("queued")
    finished.finish(png((1280, 720)))
    finished.sees("proof", f"1280 {TIMES} 720")
    assert finished.photo_size == (1280, 720)
