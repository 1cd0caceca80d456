"""Finds the browser for the page's tests, or brings one: `find_browser.py` prints its path.

In order: Chromium or Chrome on the PATH; as root on Debian the package `chromium`, with a Thai
font; the Chromium that Playwright fetches. If there is none then, it says what is missing.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
_PACKAGES = ("chromium", "fonts-thai-tlwg")


def main() -> int:
    """The exit code: 0, or 1 after one sentence on stderr."""
    try:
        print(find_browser())
    except RuntimeError as exc:
        print(f"find_browser: {exc}", file=sys.stderr)
        return 1
    return 0


def find_browser() -> str:
    """The path of a Chromium. Raises RuntimeError where none is there and none could be brought."""
    tried = []
    for bring in (_nothing, _by_apt, _by_playwright):
        tried.append(bring())
        if path := _on_path() or _of_playwright():
            return path
    raise RuntimeError(
        "the page's tests need Chromium or Chrome; "
        + "; ".join(filter(None, tried))
        + "; install one of them, so that it is on the PATH"
    )


def _on_path() -> str | None:
    return next(filter(None, map(shutil.which, _NAMES)), None)


def _of_playwright() -> str | None:
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def _nothing() -> str:
    return "none is installed"


def _by_apt() -> str:
    if os.geteuid() != 0 or not Path("/etc/debian_version").exists():
        return "this is not Debian as root, so none was installed by apt-get"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", *_PACKAGES]):
        done = subprocess.run(
            ["apt-get", "-q", *command], stdout=sys.stderr, env=environment, check=False
        )
        if done.returncode != 0:
            return f"apt-get {command[0]} failed, its message is above"
    return "apt-get brought none"


def _by_playwright() -> str:
    command = [sys.executable, "-m", "playwright", "install", "chromium"]
    done = subprocess.run(command, stdout=sys.stderr, check=False)
    return "" if done.returncode == 0 else "Playwright could not fetch one, its message is above"


if __name__ == "__main__":
    sys.exit(main())
