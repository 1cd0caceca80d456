"""Nobody is shut out: axe-core in every state, keys alone, and targets for fingers."""

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.conftest import DESK, PHONE, Visit
from tests.browser.test_states import ENTER
from tests.browser.visitor import Visitor

LEAST_TARGET = 24
_RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]}}
LOOKS: dict[str, dict[str, Any]] = {
    "desk": {**DESK, "color_scheme": "light"},
    "phone": {**PHONE, "color_scheme": "dark"},
}


def hold_to_rules(visitor: Visitor) -> None:
    found = Axe().run(visitor.page, options=_RULES)
    assert found.violations_count == 0, found.generate_report()
    small = visitor.page.evaluate(
        """least => [...document.querySelectorAll("button, a, .button, select, textarea")]
            .filter((e) => e.offsetParent && Math.min(e.offsetWidth, e.offsetHeight) < least)
            .map((e) => e.outerHTML.slice(0, 80))""",
        LEAST_TARGET,
    )
    assert small == []
    assert visitor.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("look", LOOKS)
def test_no_state_breaks_a_rule_of_wcag(visit: Visit, look: str) -> None:
    """One after the other on one page, which is quicker than a page for each."""
    visitor = visit(**LOOKS[look])
    visitor.is_in("empty")
    hold_to_rules(visitor)
    visitor.prepare()
    visitor.press("option-outfit_colour")
    visitor.press("option-outfit_colour-colour-red")
    visitor.page.locator("summary").click()
    expect(visitor.get("keeps")).to_be_visible()
    hold_to_rules(visitor)
    visitor.generate()
    visitor.is_in("queued")
    hold_to_rules(visitor)
    visitor.gateway.play("running")
    visitor.is_in("running")
    hold_to_rules(visitor)
    visitor.finish()
    hold_to_rules(visitor)
    visitor.generate()
    visitor.is_in("queued")
    visitor.gateway.play("failed")
    visitor.is_in("failed")
    visitor.sees("problem")
    hold_to_rules(visitor)


@pytest.mark.parametrize("state", ["checking", "cancelling", "offline"])
def test_no_passing_state_breaks_a_rule_of_wcag(visit: Visit, state: str) -> None:
    visitor = visit(**LOOKS["phone"])
    visitor.is_in("empty")
    ENTER[state](visitor)
    visitor.is_in(state)
    hold_to_rules(visitor)


def test_dialogs_break_no_rule_of_wcag(visit: Visit) -> None:
    visitor = visit(**LOOKS["desk"])
    visitor.gateway.key = "secret"
    visitor.provoked = True
    visitor.page.reload()
    visitor.sees("dialog")
    hold_to_rules(visitor)


def test_keys_alone_go_from_photo_to_result(visitor: Visitor) -> None:
    visitor.give_photo()
    visitor.is_in("ready")
    keyboard = visitor.page.keyboard
    visitor.get("stage").focus()
    keyboard.press("Enter")
    visitor.get("prompt").focus()
    keyboard.type("Make the sky red")
    expect(visitor.get("generate")).to_be_enabled()
    visitor.get("generate").focus()
    keyboard.press("Enter")
    visitor.is_in("queued")
    visitor.finish()
    reached = set()
    visitor.get("stage").focus()
    for _ in range(12):
        keyboard.press("Tab")
        reached.add(
            visitor.page.evaluate(
                "document.activeElement.dataset.testid ?? document.activeElement.id"
            )
        )
    assert {"compare", "peek", "download-png", "download-jpg", "onward", "change"} <= reached


def test_what_has_the_focus_is_never_under_the_bar(visit: Visit) -> None:
    visitor = visit(**PHONE)
    visitor.is_in("empty")
    visitor.prepare()
    visitor.get("prompt").focus()
    for _ in range(30):
        visitor.page.keyboard.press("Tab")
        hidden = visitor.page.evaluate(
            """() => {
                const { top } = document.activeElement.getBoundingClientRect()
                const bar = document.querySelector(".go")
                const covered = top >= bar.getBoundingClientRect().top
                return covered && !bar.contains(document.activeElement)
            }"""
        )
        assert not hidden, visitor.page.evaluate("document.activeElement.outerHTML")
