"""One locked file from the hub to its place: in turn, resumed, tried again, hashed, moved.

Whatever goes wrong, nothing but the locked bytes gets the file's name.
"""

import errno
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from handler.errors import ModelCorrupt, ModelFetchFailed
from handler.hub.client import Hub, TryAgain, fetch_failed
from handler.hub.partial_file import InUse, PartialFile, flush, turn
from handler.hub.stamps import has_stamp, write_stamp
from handler.models import ModelFile, hash_model

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds, but for `tries`: how often in a row a file may fail without a new byte."""

    tries: int = 5
    first_wait_s: float = 1.0
    longest_wait_s: float = 300.0
    poll_s: float = 1.0
    stale_s: float = 120.0
    report_s: float = 10.0
    turn_s: float = 7200.0


class Stopped(Exception):
    """Another file has failed, or the process is asked to end."""


@dataclass
class FetchState:
    """What the downloads of one call share. `done`: bytes that are there of what is fetched."""

    hub: Hub
    report: Callable[[str], None]
    patience: Patience
    stop: threading.Event = field(default_factory=threading.Event)
    done: dict[ModelFile, int] = field(default_factory=dict)

    def go_on(self) -> None:
        """Raises Stopped."""
        if self.stop.is_set():
            raise Stopped

    def sleep(self, seconds: float, beat: Callable[[], None] = lambda: None) -> None:
        """With a `beat` every `poll_s`. Raises Stopped."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.stop.wait(min(left, self.patience.poll_s))
            self.go_on()
            beat()


class ModelDownload:
    """`place` is the file's own; everything else that is written lies hidden beside it."""

    def __init__(self, model: ModelFile, place: Path, state: FetchState) -> None:
        self._model = model
        self._place = place
        self._state = state
        self._part = PartialFile(model, place.parent, state.patience.stale_s)
        # When a file of other contents was written that is to be replaced.
        self._wrong_since: int | None = None

    @property
    def has_size(self) -> bool:
        try:
            return self._place.is_file() and self._place.stat().st_size == self._model.bytes
        except OSError:
            return False

    def ask_hub(self) -> None:
        """Raises ModelFetchFailed if the hub would not give the file, Stopped."""
        if not self.has_size:
            self._insist(lambda: self._state.hub.check(self._model))

    def run(self) -> None:
        """Raises ModelFetchFailed, Stopped."""
        if self._is_right():
            self._report("already there")
            return
        try:
            self._place.parent.mkdir(parents=True, exist_ok=True)
            waiting = _Waiting(self._model, self._state)
            with turn(self._place.with_name(f".{self._place.name}.lock"), waiting):
                # Whoever had the turn before has most likely fetched it.
                while not self._is_right() and not self._fetched():
                    waiting()
        except OSError as exc:
            raise self._not_written(exc) from exc

    def _report(self, text: str) -> None:
        self._state.report(f"{self._model.place}: {text}")

    def _is_right(self) -> bool:
        """In full, unless it was found right before and not written since. Raises Stopped."""
        if not self.has_size:
            return False
        if has_stamp(self._model, self._place):
            return True
        written = self._place.stat().st_mtime_ns
        if written == self._wrong_since:
            return False
        self._report("is there; its SHA-256 is looked at")
        try:
            hash_model(self._model, self._place, lambda _: self._state.go_on())
        except ModelCorrupt as exc:
            self._wrong_since = written
            self._state.report(f"{exc.message}; it is replaced")
            return False
        write_stamp(self._model, self._place)
        return True

    def _fetched(self) -> bool:
        """False if another process is at it. Raises ModelFetchFailed, Stopped, OSError."""
        try:
            self._bring()
        except InUse:
            return False
        write_stamp(self._model, self._place)
        self._report("fetched, its SHA-256 is right")
        return True

    def _bring(self) -> None:
        """Raises InUse, ModelFetchFailed, Stopped, OSError."""
        kept = self._state.done[self._model] = self._part.claim()
        self._report(
            f"fetching {max(0, self._model.bytes - kept):,} bytes"
            + (f"; {kept:,} are there from an earlier try" if kept else "")
        )
        with self._part.open() as file:
            while not self._is_downloaded(file):
                # What a dead process left need not have been what it was to be.
                self._report("what an earlier try left was wrong; from the start")
        self._part.put(self._place)

    def _is_downloaded(self, file: BinaryIO) -> bool:
        """False if the bytes were wrong and some were from an earlier process; `file` is empty
        then. Raises InUse, ModelFetchFailed, Stopped, OSError."""
        kept = self._state.done[self._model]
        if kept < self._model.bytes:
            self._insist(lambda: self._receive(file))
        flush(file)
        try:
            hash_model(self._model, self._part.path, _Beat(self._part, self._state))
        except ModelCorrupt as exc:
            self._part.check_ours(file)
            self._state.done[self._model] = 0
            file.truncate(0)
            if kept:
                return False
            self._part.path.unlink(missing_ok=True)
            text = f"the hub sent wrong bytes, now deleted: {exc.message}"
            raise fetch_failed(self._model, "wrong_bytes", text) from exc
        return True

    def _receive(self, file: BinaryIO) -> None:
        """Raises ModelFetchFailed, TryAgain, Stopped, OSError."""
        model, done = self._model, self._state.done
        with self._state.hub.read(model, done[model]) as (offset, chunks):
            if offset < done[model]:
                file.truncate(offset)
            file.seek(offset)
            done[model] = offset
            for chunk in chunks:
                self._state.go_on()
                file.write(chunk)
                done[model] += len(chunk)
                if done[model] > model.bytes:
                    break
        if done[model] < model.bytes:
            raise TryAgain(fetch_failed(model, "broken_off", "the answer ended too early"))

    def _insist(self, attempt: Callable[[], object]) -> None:
        """Repeat `attempt` while its fault may pass. Raises ModelFetchFailed, Stopped."""
        model, done, tries = self._model, self._state.done, 0
        while True:
            before = done.get(model, 0)
            try:
                attempt()
            except TryAgain as exc:
                tries = 1 if done.get(model, 0) > before else tries + 1
                pause = self._pause_s(exc, tries)
                if pause is None:
                    raise _given_up(exc.fault, tries) from exc
                self._state.report(f"{exc.fault.message}; next try in {pause:.0f} s")
            else:
                return
            self._state.sleep(pause, self._part.keep_alive)

    def _pause_s(self, exc: TryAgain, tries: int) -> float | None:
        """How long to wait for the next try; None for no further try."""
        patience = self._state.patience
        wanted = patience.first_wait_s * 2.0 ** (tries - 1) if exc.after_s is None else exc.after_s
        is_last = tries >= patience.tries or wanted > patience.longest_wait_s
        return None if is_last else wanted

    def _not_written(self, exc: OSError) -> ModelFetchFailed:
        folder = self._place.parent
        if exc.errno in _FULL:
            kept = "what was fetched is kept: make room, and the next call goes on from there"
            text = f"{folder} is full ({exc.strerror}); {kept}"
            return fetch_failed(self._model, "disk_full", text)
        text = f"{folder} can't be written: {exc.strerror}"
        return fetch_failed(self._model, "not_writable", text)


class _Waiting:
    """Sleeps a moment for each call, and says now and then for whom."""

    def __init__(self, model: ModelFile, state: FetchState) -> None:
        self._model = model
        self._state = state
        self._say_at = self._start = time.monotonic()

    def __call__(self) -> None:
        """Raises ModelFetchFailed after `turn_s`, Stopped."""
        now, patience = time.monotonic(), self._state.patience
        if now >= self._say_at:
            self._say_at = now + 6 * patience.report_s
            self._state.report(f"{self._model.place}: another process is at it; waiting")
        if now - self._start > patience.turn_s:
            text = f"another process has been at it for more than {patience.turn_s:,.0f} s"
            raise fetch_failed(self._model, "waited", text)
        self._state.sleep(patience.poll_s)


class _Beat:
    """The progress of a hash: keeps the part from looking stale while nothing is written."""

    _EVERY_S = 5.0

    def __init__(self, part: PartialFile, state: FetchState) -> None:
        self._part = part
        self._state = state
        self._next = 0.0

    def __call__(self, _done: int) -> None:
        """Raises Stopped."""
        self._state.go_on()
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self._EVERY_S
            self._part.keep_alive()


def _given_up(fault: ModelFetchFailed, tries: int) -> ModelFetchFailed:
    return ModelFetchFailed(
        f"{fault.message}; given up after {tries} {'try' if tries == 1 else 'tries'} without a new "
        "byte. What was fetched is kept: the next call goes on from there",
        **fault.details,
    )
