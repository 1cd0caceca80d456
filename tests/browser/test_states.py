"""Every state: what is seen in it, that a reload comes back to it, and that its job ends."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.visitor import TIMES, Visitor

PAGE = Path(__file__).parents[2] / "gateway" / "page"
MACHINE: dict[str, Any] = json.loads((PAGE / "machine.json").read_text())
STATES: list[str] = list(MACHINE["states"])
EVENTS: list[str] = MACHINE["events"].split()


def enter_empty(_: Visitor) -> None:
    pass


def enter_checking(visitor: Visitor) -> None:
    visitor.gateway.upload_gate.clear()
    visitor.give_photo()


def enter_ready(visitor: Visitor) -> None:
    visitor.prepare()


def enter_submitting(visitor: Visitor) -> None:
    visitor.gateway.create_gate.clear()
    visitor.prepare()
    visitor.generate()
    visitor.gateway.wait_for(lambda: visitor.gateway.jobs, "the job was never asked for")


def enter_queued(visitor: Visitor) -> None:
    visitor.start_job()
    visitor.gateway.play("queued")


def enter_running(visitor: Visitor) -> None:
    visitor.start_job()
    visitor.gateway.play("running")


def enter_cancelling(visitor: Visitor) -> None:
    enter_running(visitor)
    visitor.is_in("running")
    visitor.press("cancel")
    visitor.gateway.wait_for(lambda: visitor.gateway.newest.cancels, "nobody cancelled")


def enter_offline(visitor: Visitor) -> None:
    enter_running(visitor)
    visitor.is_in("running")
    visitor.provoked = True
    visitor.gateway.down = True


def enter_done(visitor: Visitor) -> None:
    visitor.start_job()
    visitor.finish()


def enter_failed(visitor: Visitor) -> None:
    visitor.start_job()
    visitor.gateway.play("failed")


ENTER: dict[str, Callable[[Visitor], None]] = {
    name.removeprefix("enter_"): act
    for name, act in list(globals().items())
    if name.startswith("enter_")
}
# Where a reload leads: what was not the server's yet is begun anew, a result stays in the history.
AFTER_RELOAD = {
    "checking": "empty", "submitting": "queued", "done": "ready", "failed": "ready",
}  # fmt: skip
# The hooks that each part of the table stands for.
PARTS = {
    "drop": ["drop"], "paint": ["tools"], "busy": ["progress"],
    "cancel": ["cancel"], "result": ["result", "compare", "download-png"],
}  # fmt: skip


def test_every_state_but_the_first_moment_is_entered_here() -> None:
    assert {*ENTER, "starting"} == set(STATES)


@pytest.mark.parametrize("state", ENTER)
def test_a_state_shows_what_the_table_says_and_nothing_else(visitor: Visitor, state: str) -> None:
    ENTER[state](visitor)
    visitor.is_in(state)
    for part, hooks in PARTS.items():
        for hook in hooks:
            if state in MACHINE["shows"][part].split():
                expect(visitor.get(hook)).to_be_visible()
            else:
                expect(visitor.get(hook)).to_be_hidden()
    is_ready = state in MACHINE["shows"]["generate"].split() and state != "empty"
    expect(visitor.get("generate")).to_be_enabled(enabled=is_ready)


@pytest.mark.parametrize("state", ENTER)
def test_a_reload_comes_back_to_where_one_was(visitor: Visitor, state: str) -> None:
    ENTER[state](visitor)
    visitor.is_in(state)
    visitor.gateway.down = False
    visitor.gateway.create_gate.set()
    visitor.page.reload()
    later = AFTER_RELOAD.get(state, state if state != "offline" else "running")
    visitor.is_in(later)
    if state not in ("empty", "checking"):
        expect(visitor.get("prompt")).to_have_value("Make the sky red")
        expect(visitor.page.locator("#photo")).to_have_js_property("complete", True)
        assert visitor.kept("mask")["ops"] == [{"t": "all"}]
    assert len(visitor.gateway.jobs) <= 1, "a reload must never ask for a second job"


@pytest.mark.parametrize("state", ["submitting", "queued", "running", "cancelling", "offline"])
def test_a_job_ends_with_its_picture_whatever_was_reloaded(visitor: Visitor, state: str) -> None:
    ENTER[state](visitor)
    visitor.is_in(state)
    visitor.page.reload()
    visitor.gateway.down = False
    visitor.gateway.create_gate.set()
    visitor.finish()
    visitor.sees("result")


def test_the_script_of_the_table_does_what_the_table_says(visitor: Visitor) -> None:
    found = visitor.page.evaluate(
        """async ({ table, events, address }) => {
            const { machine } = await import(address)
            const { next } = machine(table)
            const all = {}
            for (const state in table.states)
                all[state] = events.map((event) => next(state, event) ?? ".").join(" ")
            try { next("ready", "sneeze") } catch { all.unknown = "refused" }
            return all
        }""",
        {"table": MACHINE, "events": EVENTS, "address": f"{visitor.page.url}/machine.js"},
    )
    assert found == {**MACHINE["states"], "unknown": "refused"}


def test_from_the_photo_to_the_result_without_a_step_between(visitor: Visitor) -> None:
    expect(visitor.get("generate")).to_be_disabled()
    visitor.sees("status", re.compile("photo.*mask.*words"))
    visitor.give_photo()
    visitor.is_in("ready")
    expect(visitor.page.locator("[data-tool=brush]")).to_have_attribute("aria-pressed", "true")
    visitor.sees("status", re.compile("^Still needed: a mask · words"))
    visitor.drag((200, 200), (300, 300))
    visitor.sees("status", re.compile("^Still needed: words"))
    visitor.say("Make it red")
    visitor.sees("status", "Ready")
    visitor.generate()
    visitor.is_in("queued")
    visitor.gateway.play("queued")
    visitor.sees("status", "Place 2 in the queue · about 41 s")
    visitor.gateway.play("cold")
    visitor.sees("status", "a GPU is starting")
    visitor.gateway.play("running")
    visitor.sees("status", "Editing · about 9 s")
    expect(visitor.get("progress")).to_have_js_property("value", 35)
    expect(visitor.page).to_have_title("35 % Edit a photo")
    visitor.finish()
    visitor.sees("proof", f"0 pixels changed outside · 512 {TIMES} 512 · Seed 4711")


def test_nothing_that_is_given_while_a_job_runs_disturbs_it(visitor: Visitor) -> None:
    enter_running(visitor)
    visitor.is_in("running")
    visitor.give_photo(name="other.jpg")
    visitor.say("Something else")
    visitor.page.keyboard.press("Control+z")
    visitor.is_in("running")
    visitor.finish()
    assert visitor.get("download-png").get_attribute("href").endswith("beach-edited.png")  # type: ignore[union-attr]


def test_a_double_press_of_generate_makes_one_job(visitor: Visitor) -> None:
    visitor.prepare()
    visitor.get("generate").dblclick(force=True)
    visitor.is_in("queued")
    assert len(visitor.gateway.jobs) == 1


def test_two_tabs_have_each_their_own_photo_and_job(visit: Visit) -> None:
    one = visit()
    one.start_job()
    two = visit(beside=one)
    two.is_in("empty")
    two.prepare("Make the grass blue")
    two.generate()
    two.is_in("queued")
    first, second = one.gateway.jobs.values()
    one.gateway.play("running", first)
    one.is_in("running")
    two.is_in("queued")
    two.finish()
    one.is_in("running")
    for tab, words in ((one, "Make the sky red"), (two, "Make the grass blue")):
        tab.page.reload()
        expect(tab.get("prompt")).to_have_value(words)
    one.is_in("running")
    two.is_in("ready")
    assert second.body["prompt"].startswith("Make the grass blue")


def test_a_closed_tab_is_found_again_by_the_next_one(visit: Visit) -> None:
    one = visit()
    one.start_job()
    other = visit(beside=one)
    other.is_in("empty")
    one.page.close()
    # The browser lets go of a closed tab's lock a moment later.
    other.page.evaluate("navigator.locks.request('session-0', () => {})")
    later = visit(beside=other)
    later.is_in("queued")
    expect(later.get("prompt")).to_have_value("Make the sky red")


def test_a_photo_that_is_given_at_the_very_first_moment_is_taken(visit: Visit) -> None:
    """A file can be chosen before the scripts have come, and while they look for a former photo."""
    visitor = visit()
    visitor.is_in("empty")
    held: list[Any] = []
    visitor.page.route("**/machine.json", lambda route: held.append(route))
    with visitor.page.expect_request("**/machine.json"):
        visitor.page.reload(wait_until="commit")
    visitor.give_photo()
    held[0].continue_()
    visitor.is_in("ready")


def test_start_over_forgets_the_photo(visitor: Visitor) -> None:
    visitor.prepare()
    visitor.page.locator("summary").click()
    visitor.press("reset")
    visitor.is_in("empty")
    expect(visitor.get("prompt")).to_have_value("")
    visitor.gateway.wait_for(lambda: visitor.kept("photo") is None, "the photo was kept")
    visitor.page.reload()
    visitor.is_in("empty")
