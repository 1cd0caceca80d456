"""A real browser before the replaying gateway; a page that writes an error on its console fails."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from scripts.find_browser import find_browser
from tests.browser.visitor import Visitor
from tests.fakes.page_gateway import PageGateway

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    # A name that is no loopback: there the page has no secure context.
    "--host-resolver-rules=MAP photos.test 127.0.0.1",
)  # fmt: skip
DESK: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}, "locale": "en-GB"}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844}, "locale": "th-TH", "has_touch": True,
    "is_mobile": True, "device_scale_factor": 2,
}  # fmt: skip
# A machine may be busy with much else.
PATIENCE_MS = 30_000
expect.set_options(timeout=PATIENCE_MS)
Visit = Callable[..., Visitor]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=[*FLAGS])
        yield browser
        browser.close()


@pytest.fixture
def gateway() -> Iterator[PageGateway]:
    with PageGateway() as gateway:
        yield gateway


@pytest.fixture
def visit(browser: Browser, gateway: PageGateway) -> Iterator[Visit]:
    """Opens the page: `visit(**context options)`; `beside=visitor` opens another tab of its
    browser."""
    visitors: list[Visitor] = []

    def open_page(*, beside: Visitor | None = None, url: str | None = None, **options: Any) -> Any:
        context = beside.page.context if beside else browser.new_context(**{**DESK, **options})
        context.set_default_timeout(PATIENCE_MS)
        visitor = Visitor(context.new_page(), gateway)
        visitors.append(visitor)
        visitor.page.goto(url or gateway.url)
        return visitor

    yield open_page
    faults = [fault for visitor in visitors for fault in visitor.faults()]
    for context in {visitor.page.context for visitor in visitors}:
        context.close()
    gateway.create_gate.set()
    gateway.upload_gate.set()
    assert faults == []


@pytest.fixture
def visitor(visit: Visit) -> Visitor:
    """At a desk, in English, before a page without a photo."""
    visitor = visit()
    visitor.is_in("empty")
    return visitor
