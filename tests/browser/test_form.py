"""Words, option cards, and the English prompt that they become."""

import re

import pytest
from playwright.sync_api import expect

from gateway.prompt import options
from tests.browser.conftest import PHONE, Visit
from tests.browser.visitor import Visitor, jpeg


def test_every_category_and_option_of_the_engine_can_be_chosen(visitor: Visitor) -> None:
    for category in options()["categories"]:
        button = visitor.get(f"option-{category['id']}")
        expect(button).to_have_text(category["label"]["en"])
        button.click()
        for field in category["fields"]:
            if field["kind"] == "text":
                expect(visitor.page.get_by_label(field["label"]["en"]).first).to_be_visible()
                continue
            for option in field["options"]:
                name = f"option-{category['id']}-{field['id']}-{option['id']}"
                expect(visitor.get(name)).to_have_text(option["label"]["en"])
        button.click()
        expect(visitor.page.locator("#cards section")).to_have_count(0)


def test_several_cards_become_one_prompt_and_what_is_kept_is_written_out(
    visitor: Visitor,
) -> None:
    visitor.press("option-outfit_colour")
    visitor.press("option-outfit_colour-colour-red")
    expect(visitor.get("option-outfit_colour-colour-red")).to_have_attribute("aria-pressed", "true")
    expect(visitor.get("option-outfit_colour-colour-red")).to_be_focused()
    prompt = visitor.get("compiled-prompt")
    expect(prompt).to_have_value(re.compile("to red"))
    visitor.press("option-expression")
    visitor.page.locator("[id^=option-expression-]").first.click()
    expect(prompt).to_have_value(re.compile("to red.*expression|smile", re.DOTALL))
    visitor.sees("keeps", "Face")
    visitor.press("lang-th")
    visitor.sees("keeps", "ใบหน้า")
    expect(visitor.get("option-outfit_colour")).to_have_text("เปลี่ยนสีชุด")
    visitor.page.reload()
    expect(prompt).to_have_value(re.compile("to red"))
    expect(visitor.get("option-outfit_colour-colour-red")).to_have_text("แดง")


def test_the_compiled_prompt_can_be_edited_and_is_sent_as_it_stands(visitor: Visitor) -> None:
    visitor.prepare("Make the sky red")
    visitor.get("compiled-prompt").fill("Paint the sky crimson.")
    visitor.say("Make the sea green")
    visitor.press("generate")
    visitor.is_in("queued")
    assert visitor.gateway.newest.body["prompt"] == "Paint the sky crimson."
    visitor.finish()
    visitor.press("rebuild")
    expect(visitor.get("compiled-prompt")).to_have_value(re.compile("Make the sea green"))
    visitor.sees_no("rebuild")


def test_words_that_were_just_typed_are_compiled_before_the_job_is_sent(visitor: Visitor) -> None:
    visitor.prepare("Make the sky red")
    visitor.say("Make the sky green")
    visitor.press("generate")
    visitor.is_in("queued")
    assert "green" in visitor.gateway.newest.body["prompt"]


def test_thai_that_is_not_translated_is_pointed_out_before_it_costs(visitor: Visitor) -> None:
    visitor.say("ใส่หมวกสีแดง")
    expect(visitor.get("warnings")).to_contain_text("There is Thai")
    visitor.press("lang-th")
    expect(visitor.get("warnings")).to_contain_text("ภาษาไทย")


def test_the_mask_is_known_to_the_engine(visitor: Visitor) -> None:
    visitor.give_photo()
    visitor.is_in("ready")
    visitor.press("option-outfit_colour")
    visitor.press("option-outfit_colour-colour-red")
    prompt = visitor.get("compiled-prompt")
    expect(prompt).to_have_value(re.compile("to red"))
    expect(prompt).not_to_have_value(re.compile("marked area"))
    visitor.drag((200, 200))
    expect(prompt).to_have_value(re.compile("marked area"))
    visitor.press("mask-whole")
    expect(prompt).not_to_have_value(re.compile("marked area"))


def test_a_whole_photo_comes_back_at_its_own_size_unless_another_shape_is_asked(
    visitor: Visitor,
) -> None:
    visitor.start_job()
    assert visitor.gateway.newest.body["output"] == {"size": "photo"}
    visitor.finish()
    visitor.get("ratio").select_option("1:1")
    visitor.generate()
    visitor.is_in("queued")
    assert "output" not in visitor.gateway.newest.body


def test_the_model_sees_all_of_the_photo_where_an_option_needs_it(visitor: Visitor) -> None:
    visitor.give_photo()
    visitor.is_in("ready")
    visitor.drag((200, 200))
    for category, option, fit in (
        ("style", "style-anime", "whole"),
        ("skin", "look-peach_lips", None),
    ):
        visitor.press(f"option-{category}")
        visitor.press(f"option-{category}-{option}")
        visitor.generate()
        visitor.is_in("queued")
        assert visitor.gateway.newest.body.get("fit") == fit
        visitor.finish()
        visitor.press(f"option-{category}")


def test_without_the_engine_the_words_go_as_they_were_typed(visitor: Visitor) -> None:
    visitor.give_photo()
    visitor.is_in("ready")
    visitor.press("mask-whole")
    visitor.provoked = True
    visitor.page.route("**/api/prompt/compile", lambda route: route.abort())
    visitor.say("Make the sky red")
    visitor.sees("problem", "No answer")
    visitor.generate()
    visitor.is_in("queued")
    assert visitor.gateway.newest.body["prompt"] == "Make the sky red"


def test_the_seed_is_locked_only_where_asked(visitor: Visitor) -> None:
    visitor.start_job()
    assert "seed" not in visitor.gateway.newest.body
    visitor.finish()
    visitor.page.locator("summary").click()
    expect(visitor.page.locator("[name=seed]")).to_have_value("4711")
    visitor.page.locator("[name=lock]").check()
    visitor.generate()
    visitor.is_in("queued")
    assert visitor.gateway.newest.body["seed"] == 4711
    visitor.finish()
    visitor.press("another")
    visitor.is_in("queued")
    assert "seed" not in visitor.gateway.newest.body
    expect(visitor.page.locator("[name=lock]")).not_to_be_checked()


def test_speed_travels_and_a_ratio_only_for_the_whole_picture(visitor: Visitor) -> None:
    visitor.give_photo()
    visitor.is_in("ready")
    visitor.say("Make it red")
    visitor.get("ratio").select_option("16:9")
    visitor.page.locator("[name=speed]").select_option("fine")
    visitor.drag((200, 200))
    visitor.sees("framed", "Only the whole picture")
    visitor.generate()
    visitor.is_in("queued")
    assert "ratio" not in visitor.gateway.newest.body
    assert visitor.gateway.newest.body["speed"] == "fine"
    visitor.finish()
    visitor.press("change")
    visitor.press("mask-whole")
    visitor.sees_no("framed")
    visitor.generate()
    visitor.is_in("queued")
    assert visitor.gateway.newest.body["ratio"] == "16:9"


def test_up_to_three_pictures_travel_and_the_words_can_mention_them(visitor: Visitor) -> None:
    visitor.prepare("The dress of")
    for number in (2, 3):
        picture = {"name": f"{number}.jpg", "mimeType": "image/jpeg", "buffer": jpeg((60, 60))}
        visitor.get("extra").set_input_files(picture)
        expect(visitor.page.locator("#pictures img")).to_have_count(number - 1)
    expect(visitor.get("extra")).to_be_disabled()
    visitor.get("prompt").press("End")
    visitor.page.get_by_role("button", name="Picture 3", exact=True).click()
    expect(visitor.get("prompt")).to_have_value(re.compile(r"The dress of ?Picture 3"))
    visitor.page.reload()
    expect(visitor.page.locator("#pictures img")).to_have_count(2)
    visitor.page.get_by_role("button", name="Remove 2").click()
    expect(visitor.page.locator("#pictures img")).to_have_count(1)
    visitor.generate()
    visitor.is_in("queued")
    sent = [image["image"] for image in visitor.gateway.newest.body["images"]]
    assert sent == ["upload:up1", "upload:up3"]


@pytest.mark.parametrize(("locale", "title"), [("th-TH", "แก้รูป"), ("fr-FR", "Edit a photo")])
def test_the_page_opens_in_the_language_of_the_browser(
    visit: Visit, locale: str, title: str
) -> None:
    visitor = visit(locale=locale)
    visitor.sees("title", title)


def test_the_language_changes_without_a_reload_and_stays(visitor: Visitor) -> None:
    visitor.prepare()
    visitor.press("lang-th")
    visitor.sees("generate", "สร้างภาพ")
    expect(visitor.page.locator("html")).to_have_attribute("lang", "th")
    visitor.page.reload()
    visitor.sees("generate", "สร้างภาพ")
    expect(visitor.get("prompt")).to_have_value("Make the sky red")


def test_a_phone_goes_from_photo_to_result_in_thai(visit: Visit) -> None:
    visitor = visit(**PHONE)
    visitor.sees("status", "ยังขาด: รูป · ส่วนที่ระบาย · คำสั่ง")
    visitor.give_photo()
    visitor.is_in("ready")
    visitor.page.touchscreen.tap(*visitor.at((250, 100)))
    visitor.get("option-hair").tap()
    visitor.page.locator("[id^=option-hair-]").first.tap()
    visitor.sees("status", "พร้อมแล้ว")
    visitor.get("generate").tap()
    visitor.is_in("queued")
    visitor.gateway.play("queued")
    visitor.sees("status", "รอคิวลำดับที่ 2 · อีกประมาณ 41 วินาที")
    visitor.finish()
    expect(visitor.get("stage")).to_be_in_viewport(ratio=0.9)
    visitor.sees("proof", "นอกส่วนที่ระบายไม่ถูกแก้แม้แต่พิกเซลเดียว")
    assert visitor.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
