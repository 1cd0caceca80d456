"""Cancel races, lost answers and lost streams: one job, one end, and always a next step."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import PHONE, Visit
from tests.browser.visitor import Visitor, png


def test_a_cancel_is_at_once_in_the_page_and_ends_when_the_gateway_says_so(
    visitor: Visitor,
) -> None:
    visitor.start_job()
    visitor.press("cancel")
    visitor.is_in("cancelling")
    visitor.gateway.play("running")
    visitor.gateway.wait_for(lambda: visitor.gateway.newest.cancels, "nobody cancelled")
    visitor.is_in("cancelling")
    visitor.gateway.play("cancelled")
    visitor.is_in("ready")
    visitor.sees("status", "Cancelled")
    assert visitor.strokes() == [{"t": "all"}]
    visitor.generate()
    visitor.is_in("queued")
    assert len(visitor.gateway.jobs) == 2


def test_a_cancel_before_the_job_has_an_id_reaches_it_once_it_has_one(visitor: Visitor) -> None:
    visitor.gateway.create_gate.clear()
    visitor.prepare()
    visitor.generate()
    visitor.is_in("submitting")
    visitor.press("cancel")
    visitor.is_in("cancelling")
    assert not any(job.cancels for job in visitor.gateway.jobs.values())
    visitor.gateway.create_gate.set()
    visitor.gateway.wait_for(lambda: visitor.gateway.newest.cancels, "nobody cancelled")
    visitor.gateway.play("cancelled")
    visitor.is_in("ready")


def test_a_job_that_ends_before_its_cancel_shows_its_picture(visitor: Visitor) -> None:
    visitor.start_job()
    visitor.gateway.play("running")
    visitor.is_in("running")
    visitor.press("cancel")
    visitor.finish()
    visitor.sees("result")


def test_a_cancel_that_got_no_answer_is_asked_for_again_also_after_a_reload(
    visitor: Visitor,
) -> None:
    visitor.start_job()
    visitor.provoked = True
    visitor.gateway.down = True
    visitor.press("cancel")
    visitor.is_in("cancelling")
    visitor.page.reload()
    visitor.gateway.down = False
    visitor.gateway.wait_for(lambda: visitor.gateway.newest.cancels, "nobody cancelled")
    visitor.gateway.play("cancelled")
    visitor.is_in("ready")


def test_without_a_stream_the_page_asks(visitor: Visitor) -> None:
    visitor.provoked = True
    visitor.gateway.streams = False
    visitor.start_job()
    visitor.gateway.play("running")
    visitor.is_in("running")
    visitor.gateway.succeed(png())
    visitor.is_in("done")
    assert any("/queue/status/" in line for line in visitor.gateway.requests)


def test_a_lost_connection_is_said_and_finds_the_job_again(visitor: Visitor) -> None:
    visitor.start_job()
    visitor.gateway.play("running")
    visitor.is_in("running")
    visitor.provoked = True
    visitor.gateway.down = True
    visitor.is_in("offline")
    visitor.sees("status", "The job goes on")
    visitor.gateway.succeed(png())
    visitor.gateway.down = False
    visitor.is_in("done")
    assert len(visitor.gateway.jobs) == 1


def test_a_lost_answer_to_create_makes_no_second_job(visitor: Visitor) -> None:
    visitor.provoked = True
    visitor.gateway.lose_answers = 1
    visitor.prepare()
    visitor.generate()
    visitor.is_in("queued")
    assert len(visitor.gateway.jobs) == 1
    created = [line for line in visitor.gateway.requests if line.endswith("/create")]
    assert len(created) == 2


def test_an_older_status_never_undoes_a_newer_one(visitor: Visitor) -> None:
    visitor.start_job()
    visitor.gateway.play("running")
    visitor.is_in("running")
    visitor.gateway.newest.status = {
        **visitor.gateway.newest.status, "status": "queued", "updated_at": 1,
    }  # fmt: skip
    visitor.gateway.wait_for(
        lambda: (
            "GET /api/queue/status/" + visitor.gateway.newest.job_id in visitor.gateway.requests
        ),
        "the page never asked",
    )
    visitor.is_in("running")


@pytest.mark.parametrize(
    ("event", "english", "thai"),
    [
        (
            "failed",
            "the GPU ran out of memory (out_of_memory). Try again.",
            "ไม่สำเร็จ (out_of_memory) ลองใหม่อีกครั้ง",
        ),
        (
            "refused",
            "This can't be read as a photo. Choose a JPEG, PNG or WebP.",
            "อ่านเป็นรูปไม่ได้ เลือก JPEG, PNG หรือ WebP",
        ),
    ],
)
def test_a_failed_job_says_what_to_do_next_in_both_languages_and_keeps_everything(
    visitor: Visitor, event: str, english: str, thai: str
) -> None:
    visitor.start_job()
    visitor.gateway.play(event)
    visitor.is_in("failed")
    visitor.sees("problem", english)
    visitor.press("lang-th")
    visitor.sees("problem", thai)
    expect(visitor.get("prompt")).to_have_value("Make the sky red")
    assert visitor.strokes() == [{"t": "all"}]
    visitor.generate()
    visitor.is_in("queued")
    expect(visitor.get("problem")).to_be_hidden()


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (429, "rate_limited", "Wait a minute"),
        (400, "invalid_request", r"ratio is wrong \(invalid_request\)\. Change the photo"),
        (503, "disk_full", r"ratio is wrong \(disk_full\)\. Try again\."),
    ],
)
def test_a_refused_job_says_why_and_can_be_sent_again(
    visitor: Visitor, status: int, code: str, said: str
) -> None:
    visitor.provoked = True
    visitor.gateway.refuse_create = (status, code, "ratio is wrong.")
    visitor.prepare()
    visitor.generate()
    visitor.is_in("failed")
    visitor.sees("problem", re.compile(said))
    visitor.gateway.refuse_create = None
    visitor.generate()
    visitor.is_in("queued")


def test_a_job_that_the_gateway_has_forgotten_ends_as_failed(visitor: Visitor) -> None:
    visitor.start_job()
    visitor.provoked = True
    visitor.gateway.jobs.clear()
    visitor.page.reload()
    visitor.is_in("failed")
    visitor.sees("problem", "There is no such job")


def test_a_photo_that_is_none_is_refused_in_words_and_the_former_one_stays(
    visitor: Visitor,
) -> None:
    visitor.provoked = True
    visitor.give_photo(b"no picture at all")
    visitor.is_in("empty")
    visitor.sees("problem", "Choose a JPEG, PNG or WebP")
    visitor.give_photo()
    visitor.is_in("ready")
    visitor.drag((200, 200))
    visitor.page.locator("[data-see=change] input").set_input_files(
        {"name": "bad.heic", "mimeType": "image/heic", "buffer": b"ftypheic"}
    )
    visitor.sees("problem", "Choose a JPEG, PNG or WebP")
    visitor.is_in("ready")
    assert len(visitor.strokes()) == 1


def test_an_upload_that_is_older_than_an_hour_is_sent_again(visitor: Visitor) -> None:
    visitor.page.clock.install()
    visitor.page.reload()
    visitor.is_in("empty")
    visitor.give_photo()
    visitor.is_in("ready")
    visitor.page.clock.fast_forward("01:10:00")
    visitor.gateway.uploads.clear()
    visitor.press("mask-whole")
    visitor.say("Make it red")
    visitor.page.clock.run_for(1000)
    visitor.generate()
    visitor.is_in("queued")
    assert visitor.gateway.newest.body["images"][0]["image"] == "upload:up2"


def test_a_key_is_asked_for_only_where_the_gateway_wants_one(visit: Visit) -> None:
    visitor = visit()
    visitor.gateway.key = "secret"
    visitor.provoked = True
    visitor.page.reload()
    visitor.sees("dialog", "Key")
    dialog = visitor.page.locator("dialog")
    dialog.locator("input").fill("wrong")
    dialog.locator("input").press("Enter")
    visitor.sees("refusal", "not known")
    dialog.locator("input").fill("secret")
    dialog.locator(".primary").click()
    visitor.sees_no("dialog")
    expect(visitor.page.locator("#categories button").first).to_be_visible()
    visitor.start_job()
    visitor.finish()
    cookie = visitor.page.context.cookies()[0]
    assert cookie["httpOnly"]
    assert "secret" not in visitor.page.evaluate("JSON.stringify({...localStorage})")


def test_a_key_dialog_that_is_closed_leaves_a_page_that_says_so(visit: Visit) -> None:
    visitor = visit()
    visitor.gateway.key = "secret"
    visitor.provoked = True
    visitor.page.reload()
    visitor.sees("dialog", "Key")
    visitor.press("close")
    visitor.sees_no("dialog")
    visitor.sees("problem", "key")


def test_credits_are_seen_only_where_there_are_any_and_failure_costs_nothing(
    visit: Visit,
) -> None:
    visitor = visit()
    visitor.is_in("empty")
    visitor.sees_no("credits")
    visitor.gateway.service = {"credits": "test", "demo": True}
    visitor.gateway.credits = {
        "balance": 3, "cost": {"fast": 1, "fine": 3}, "packages": [{"id": "s", "credits": 10}],
    }  # fmt: skip
    visitor.page.reload()
    visitor.sees("credits", "3 credits")
    visitor.sees("demo", "Demo")
    visitor.sees("generate", "credits: 1")
    visitor.press("credits")
    visitor.sees("why", "nobody pays")
    visitor.page.get_by_role("button", name="+ 10").click()
    visitor.sees("credits", "13 credits")
    visitor.start_job()
    visitor.gateway.play("failed")
    visitor.sees("problem", "Nothing was charged.")


def test_the_page_works_on_plain_http_at_a_name_that_is_not_loopback(
    visit: Visit,
) -> None:
    gateway = visit().gateway
    url = gateway.url.replace("127.0.0.1", "photos.test")
    visitor = visit(url=url, **PHONE)
    assert visitor.page.evaluate("isSecureContext") is False
    visitor.give_photo()
    visitor.is_in("ready")
    visitor.drag((200, 200), (300, 250))
    visitor.say("Make it red")
    visitor.generate()
    visitor.is_in("queued")
    visitor.page.reload()
    visitor.is_in("queued")
    visitor.finish()
