"""What is painted is what is sent, pixel by pixel."""

from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.conftest import PHONE, Visit
from tests.browser.expected_mask import ExpectedMask
from tests.browser.visitor import Visitor, jpeg


def hold_to_strokes(visitor: Visitor) -> Any:
    """Sends the mask and compares it with what was painted; returns what was sent."""
    kept = visitor.kept("mask")
    visitor.say("Make it red")
    visitor.generate()
    visitor.is_in("queued")
    sent = visitor.sent_mask()
    expected = ExpectedMask(kept["ops"][: kept["done"]], visitor.photo_size, *sent.shape)
    wrong = (sent != expected.white) & ~expected.edge
    assert not wrong.any(), f"{wrong.sum()} of {wrong.size} pixels differ"
    assert sent.any()
    return sent


@pytest.fixture
def painter(visitor: Visitor) -> Visitor:
    visitor.give_photo(jpeg((900, 600)))
    visitor.is_in("ready")
    return visitor


def test_a_stroke_is_white_within_the_brush_and_black_elsewhere(painter: Visitor) -> None:
    painter.drag((200, 150), (500, 300), (300, 450))
    sent = hold_to_strokes(painter)
    assert sent.shape == (600, 900)
    assert sent[150, 200]
    assert sent[300, 500]
    assert not sent[590, 890]


def test_a_tap_stamps_a_dot_of_the_brush(painter: Visitor) -> None:
    painter.drag((450, 300))
    sent = hold_to_strokes(painter)
    radius = painter.strokes()[0]["r"]
    assert sent.sum() == pytest.approx(np.pi * radius**2, rel=0.02)


def test_the_eraser_and_alt_take_away(painter: Visitor) -> None:
    painter.press("mask-whole")
    painter.page.keyboard.press("Tab")
    painter.page.locator("[data-tool=eraser]").click()
    painter.drag((100, 100), (400, 400))
    painter.page.locator("[data-tool=rect]").click()
    painter.page.keyboard.down("Alt")
    painter.drag((600, 100), (800, 500))
    painter.page.keyboard.up("Alt")
    sent = hold_to_strokes(painter)
    assert not sent[250, 250]
    assert not sent[300, 700]
    assert sent[500, 100]


def test_a_rectangle_is_dragged_or_set_by_two_taps(painter: Visitor) -> None:
    painter.page.locator("[data-tool=rect]").click()
    painter.drag((100, 100), (300, 200))
    painter.drag((500, 300))
    painter.drag((700, 500))
    sent = hold_to_strokes(painter)
    assert len(painter.strokes()) == 2
    assert sent.sum() == pytest.approx(200 * 100 + 200 * 200, rel=0.03)


def test_a_lasso_is_drawn_or_set_by_taps_that_come_home(painter: Visitor) -> None:
    painter.page.locator("[data-tool=lasso]").click()
    painter.drag((100, 100), (300, 100), (300, 300), (100, 300), steps=10)
    for corner in [(500, 100), (800, 100), (800, 500), (500, 500), (503, 103)]:
        painter.drag(corner)
    sent = hold_to_strokes(painter)
    assert len(painter.strokes()) == 2
    assert sent[200, 200]
    assert sent[300, 650]
    assert not sent[300, 400]


def test_a_lasso_that_crosses_itself_goes_around_all_of_it(painter: Visitor) -> None:
    painter.page.locator("[data-tool=lasso]").click()
    star = [(450, 50), (550, 500), (200, 200), (700, 200), (350, 500)]
    painter.drag(*star, steps=10)
    assert hold_to_strokes(painter)[280, 450]


def test_undo_and_redo_go_through_every_stroke_and_a_new_one_forgets_the_undone(
    painter: Visitor,
) -> None:
    for number in range(8):
        painter.drag((100 + 90 * number, 300))
    for _ in range(8):
        painter.press("mask-undo")
    expect(painter.get("mask-undo")).to_be_disabled()
    expect(painter.get("status")).to_contain_text("a mask")
    for _ in range(3):
        painter.press("redo")
    painter.drag((800, 100))
    expect(painter.get("redo")).to_be_disabled()
    assert len(painter.strokes()) == 4
    hold_to_strokes(painter)


def test_ctrl_z_undoes_and_ctrl_shift_z_does_it_again_but_not_while_typing(
    painter: Visitor,
) -> None:
    painter.drag((300, 300))
    painter.page.keyboard.press("Control+z")
    expect(painter.get("mask-undo")).to_be_disabled()
    painter.page.keyboard.press("Control+Shift+z")
    expect(painter.get("mask-undo")).to_be_enabled()
    painter.get("prompt").focus()
    painter.page.keyboard.press("Control+z")
    expect(painter.get("mask-undo")).to_be_enabled()


def test_clear_and_invert_are_strokes_that_can_be_undone(painter: Visitor) -> None:
    painter.drag((300, 300))
    painter.press("clear")
    expect(painter.get("status")).to_contain_text("a mask")
    painter.press("mask-undo")
    painter.press("invert")
    sent = hold_to_strokes(painter)
    assert not sent[300, 300]
    assert sent[0, 0]


def test_the_whole_picture_is_no_mask_at_all(visitor: Visitor) -> None:
    visitor.start_job()
    assert "mask" not in visitor.gateway.newest.body


def test_zoom_and_pan_keep_the_stroke_under_the_pointer(painter: Visitor) -> None:
    stage = painter.page.locator("#stage")
    box = stage.bounding_box()
    assert box
    painter.page.mouse.move(box["x"] + 200, box["y"] + 200)
    for _ in range(4):
        painter.page.mouse.wheel(0, -300)
    stage.focus()
    painter.page.keyboard.down(" ")
    painter.page.mouse.down()
    painter.page.mouse.move(box["x"] + 260, box["y"] + 240, steps=3)
    painter.page.mouse.up()
    painter.page.keyboard.up(" ")
    assert painter.strokes() == []
    x, y = box["x"] + 400, box["y"] + 300
    painter.page.mouse.move(x, y)
    painter.page.mouse.down()
    painter.page.mouse.move(x + 40, y, steps=3)
    painter.page.mouse.up()
    first = painter.strokes()[0]["p"][:2]
    assert painter.at((first[0], first[1])) == pytest.approx((x, y), abs=0.5)
    assert painter.strokes()[0]["r"] < 20
    hold_to_strokes(painter)


def test_a_stroke_goes_on_outside_the_picture(painter: Visitor) -> None:
    box = painter.page.locator("#stage").bounding_box()
    assert box
    x, y = painter.at((890, 300))
    painter.page.mouse.move(x, y)
    painter.page.mouse.down()
    painter.page.mouse.move(box["x"] + box["width"] + 200, y + 50, steps=3)
    painter.page.mouse.move(*painter.at((880, 500)), steps=3)
    painter.page.mouse.up()
    sent = hold_to_strokes(painter)
    assert sent[500, 880]


def test_keys_paint(painter: Visitor) -> None:
    painter.page.locator("#stage").focus()
    for key in ["Shift+ArrowLeft", "Enter", "ArrowDown", "]", "Shift+ArrowDown", "Enter"]:
        painter.page.keyboard.press(key)
    one, two = painter.strokes()
    assert one["p"][0] < 450
    assert two["p"][1] > one["p"][1]
    assert two["r"] > one["r"]
    painter.page.keyboard.press("e")
    painter.page.keyboard.press("Enter")
    assert painter.strokes()[2]["erase"]
    painter.page.keyboard.press("b")
    painter.page.keyboard.press("ArrowRight")
    painter.page.keyboard.press("Shift+ArrowRight")
    painter.page.keyboard.press("Enter")
    hold_to_strokes(painter)


def test_a_photo_of_24_megapixels_has_a_mask_of_2048_pixels(visitor: Visitor) -> None:
    visitor.give_photo(jpeg((6000, 4000), quality=60))
    visitor.is_in("ready")
    visitor.drag((1000, 1000), (5000, 3000))
    sent = hold_to_strokes(visitor)
    assert sent.shape == (1365, 2048)
    largest = visitor.page.evaluate(
        "Math.max(...[...document.querySelectorAll('canvas')].map(c => c.width * c.height))"
    )
    assert largest < 16_777_216


def test_a_turned_photo_is_masked_as_it_is_seen(visitor: Visitor) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    visitor.give_photo(jpeg((800, 400), exif=exif))
    visitor.is_in("ready")
    assert visitor.photo_size == (400, 800)
    visitor.drag((200, 700))
    sent = hold_to_strokes(visitor)
    assert sent.shape == (800, 400)
    assert sent[700, 200]


def test_one_finger_paints_and_never_scrolls_and_two_zoom(visit: Visit) -> None:
    visitor = visit(**PHONE)
    visitor.is_in("empty")
    visitor.give_photo(jpeg((900, 600)))
    visitor.is_in("ready")
    touch = visitor.page.context.new_cdp_session(visitor.page)

    def fingers(kind: str, *points: tuple[float, float]) -> None:
        places = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    x, y = visitor.at((450, 300))
    fingers("touchStart", (x, y))
    fingers("touchMove", (x, y - 40))
    fingers("touchMove", (x, y - 80))
    fingers("touchEnd")
    expect(visitor.get("mask-undo")).to_be_enabled()
    assert visitor.page.evaluate("scrollY") == 0
    assert len(visitor.strokes()) == 1

    before = visitor.page.locator("#photo").bounding_box()
    fingers("touchStart", (x - 20, y))
    fingers("touchMove", (x - 30, y))
    fingers("touchStart", (x - 30, y), (x + 30, y))
    fingers("touchMove", (x - 60, y), (x + 60, y))
    fingers("touchMove", (x - 90, y), (x + 90, y))
    fingers("touchEnd")
    after = visitor.page.locator("#photo").bounding_box()
    assert before
    assert after
    assert after["width"] == pytest.approx(before["width"] * 3, rel=0.05)
    assert len(visitor.strokes()) == 1, "a pinch is no stroke"
    hold_to_strokes(visitor)
