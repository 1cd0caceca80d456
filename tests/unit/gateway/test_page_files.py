"""The page as files: its size, its texts, its table, and that it keeps to its own policy."""

import json
import re
import unicodedata
from typing import Any

from gateway.page_files import FOLDER, page_files, page_headers

MOST_BYTES = 60_000
FILES = page_files()
HTML = FILES["index.html"].body.decode()
SCRIPTS = {name: file.body.decode() for name, file in FILES.items() if name.endswith(".js")}
TEXTS: dict[str, list[str]] = json.loads(FILES["texts.json"].body)
MACHINE: dict[str, Any] = json.loads(FILES["machine.json"].body)
HOOKS = {
    "photo-input", "stage", "mask-whole", "mask-undo", "prompt", "ratio", "generate", "cancel",
    "status", "progress", "result", "download-png", "compare", "lang-th", "lang-en", "credits",
    "compiled-prompt",
}  # fmt: skip


def test_all_of_the_page_is_smaller_than_60_kb() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(FILES)
    assert sum(len(file.body) for file in FILES.values()) < MOST_BYTES


def test_the_hooks_that_others_rely_on_are_there_once() -> None:
    hooks = re.findall(r"data-testid=([\w-]+)", HTML)
    assert set(hooks) >= HOOKS
    assert len(hooks) == len(set(hooks))


def test_nothing_is_inline_and_nothing_is_from_elsewhere() -> None:
    assert not re.search(r"<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=|<style", HTML)
    for name, file in FILES.items():
        if name.endswith((".js", ".html", ".css")):
            addresses = re.findall(r"https?://[^\s\"'`)]+", file.body.decode())
            assert addresses == [], name


def test_the_policy_allows_no_inline_code_and_only_the_pictures_of_a_known_bucket() -> None:
    policy = page_headers()["content-security-policy"]
    assert "unsafe" not in policy
    assert "img-src 'self' blob: data:;" in policy
    elsewhere = page_headers(["https://pictures.example"])["content-security-policy"]
    assert "img-src 'self' blob: data: https://pictures.example;" in elsewhere
    assert "connect-src 'self' https://pictures.example;" in elsewhere


def test_every_file_has_a_type_and_a_tag_of_its_own() -> None:
    assert len({file.etag for file in FILES.values()}) == len(FILES)
    assert all(re.fullmatch(r'"[0-9a-f]{32}"', file.etag) for file in FILES.values())


def test_every_import_is_a_file_of_the_page() -> None:
    for name, script in SCRIPTS.items():
        for imported in re.findall(r'from "\./([\w.]+)"', script):
            assert imported in FILES, f"{name} imports {imported}"


def test_every_text_is_there_in_both_languages_and_composed() -> None:
    for key, pair in TEXTS.items():
        assert len(pair) == 2, key
        for text in pair:
            assert text.strip(), key
            assert unicodedata.is_normalized("NFC", text), key
        fields = [set(re.findall(r"\{\w+\}", text)) for text in pair]
        assert fields[0] == fields[1], key
    assert not re.search("[\u0e00-\u0e7f]", "".join(english for english, _ in TEXTS.values()))


def test_every_text_that_is_shown_exists_and_none_is_idle() -> None:
    named = set(re.findall(r"data-(?:t|label)=([\w.-]+)", HTML))
    for tag in re.findall(r"<[^>]*\bdata-(?:t|label)(?=[\s>])[^>]*>", HTML):
        found = re.search(r"\bid=([\w-]+)", tag)
        assert found, tag
        named.add(found[1])
    scripts = "".join(SCRIPTS.values())
    named |= set(re.findall(r'\bt\("([\w.-]+)"', scripts))
    named |= {
        key for pair in re.findall(r't\(\w+ \? "([\w.]+)" : "([\w.]+)"', scripts) for key in pair
    }
    # Without a photo it is always said what is missing.
    named |= set(MACHINE["states"]) - {"empty"} | {
        "key",
        "key.why",
        "shop",
        "shop.why",
        "cancelled",
    }
    named |= {key for key in TEXTS if key.startswith(("error.", "wait.", "missing."))}
    assert named == set(TEXTS)


def test_the_table_lists_every_event_in_every_state() -> None:
    events, states = MACHINE["events"].split(), MACHINE["states"]
    assert len(events) == len(set(events))
    for state, row in states.items():
        cells = row.split(" ")
        assert len(cells) == len(events), state
        assert set(cells) <= {*states, "."}, state


def test_every_state_is_reached_and_left_and_every_event_means_something() -> None:
    events = MACHINE["events"].split()
    rows = {state: row.split() for state, row in MACHINE["states"].items()}
    reached, seen = {"starting"}, set[str]()
    while reached - seen:
        state = (reached - seen).pop()
        seen.add(state)
        reached |= set(rows[state]) - {"."}
    assert reached == set(rows)
    assert all(set(row) - {".", state} for state, row in rows.items())
    for number, event in enumerate(events):
        assert any(row[number] != "." for row in rows.values()), event


def test_every_event_that_the_page_sends_is_in_the_table_and_none_is_idle() -> None:
    scripts = "".join(SCRIPTS.values())
    sent = set(re.findall(r'\b(?:send|settle)\("(\w+)"', scripts))
    sent |= {
        event
        for pair in re.findall(r'send\(\w+(?:\.\w+)? \? "(\w+)" : "(\w+)"', scripts)
        for event in pair
    }
    assert sent == set(MACHINE["events"].split())


def test_a_job_in_the_making_can_always_be_cancelled_and_always_end() -> None:
    events = MACHINE["events"].split()
    rows = {
        state: dict(zip(events, row.split(), strict=True))
        for state, row in MACHINE["states"].items()
    }
    for state in MACHINE["shows"]["cancel"].split():
        assert rows[state]["cancel"] == "cancelling", state
    for state in ("queued", "running", "offline", "cancelling"):
        ends = [rows[state][event] for event in ("succeed", "fail", "stop")]
        assert ends == ["done", "failed", "ready"], state
    assert all(rows[state]["cancel"] == "." for state in ("empty", "ready", "done", "failed"))
