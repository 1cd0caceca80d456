"""Checks pictures in processes that can be ended: what one costs is up to who sends it."""

import json
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from handler.errors import InternalError, InvalidImage
from handler.logs import get_logger
from handler.machine import ProcessEnded, ProcessPool
from handler.pictures import ImageLimits, InputImage

_PACKAGE_PARENT = Path(__file__).resolve().parents[2]

log = get_logger()


class PictureChecker:
    """At most `most` pictures at a time. `env` is for the processes, which read what strangers
    send: it holds no key. A check that is cancelled ends at once."""

    def __init__(self, limits: ImageLimits, env: Mapping[str, str], most: int) -> None:
        self._pool = ProcessPool(
            [sys.executable, "-m", "handler.check_pictures", json.dumps(asdict(limits))],
            env={**env, "PYTHONPATH": str(_PACKAGE_PARENT)},
            cwd=_PACKAGE_PARENT,
            most=most,
        )

    def warm_up(self) -> None:
        self._pool.warm_up()

    def close(self) -> None:
        self._pool.close()

    async def check(self, name: str, data: bytes, where: str, *, as_photo: bool) -> InputImage:
        """As `check_image`. Raises InvalidImage, also for a picture that takes far more time or
        memory than its size allows, and InternalError."""
        head = {"name": name, "where": where, "as_photo": as_photo}
        try:
            found, pieces = await self._pool.ask(head, data)
        except ProcessEnded as exc:
            raise _ended(name, where, exc.exit_code) from exc
        if found.get("is_out_of_memory"):
            raise _too_costly(name, where, "takes more memory to decode than its size allows")
        if "fault" in found:
            raise InvalidImage(found["fault"], **found["details"])
        changed, for_comfy = pieces
        return InputImage(
            name, changed if found["is_changed"] else data, found["extension"],
            found["width"], found["height"], for_comfy or None, found["is_still"],
        )  # fmt: skip


def _ended(name: str, where: str, exit_code: int) -> InvalidImage | InternalError:
    """A signal is the doing of the picture; any other end is ours."""
    log.warning("a check of a picture ended its process", where=where, exit_code=exit_code)
    if exit_code == -signal.SIGXCPU:
        return _too_costly(name, where, "takes far longer to decode than its size allows")
    if exit_code < 0:
        return _too_costly(name, where, "can't be decoded: it ends the decoder")
    return InternalError(f"{where} ({name!r}) could not be checked: the check ended")


def _too_costly(name: str, where: str, reason: str) -> InvalidImage:
    return InvalidImage(
        f"{where} ({name!r}): {reason}; save it again as a plain PNG or JPEG",
        where=where,
        name=name,
    )
