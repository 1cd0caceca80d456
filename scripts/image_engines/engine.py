"""What an engine can do, and the commands that it does it by."""

import contextlib
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

PROJECT_DIR = Path(__file__).resolve().parents[2]
WORK_DIR = PROJECT_DIR / "build" / "image-test"
IMAGE = "localhost/qwen-image-edit-worker:test"


class EngineError(Exception):
    """One sentence for the user: what went wrong and what to do."""


@dataclass(frozen=True)
class Layer:
    size: int
    made_by: str


@dataclass(frozen=True)
class Mount:
    source: Path
    target: str
    writable: bool = False


class Container(Protocol):
    """The image, running."""

    def execute(self, argv: Sequence[str], user: int) -> subprocess.CompletedProcess[str]: ...
    def exit_code(self) -> int | None: ...
    def terminate(self) -> None: ...
    def log(self) -> str: ...


class Engine(Protocol):
    """Builds the image and runs it."""

    def build(self) -> None: ...
    def config(self) -> dict[str, Any]: ...
    def layers(self) -> list[Layer]: ...
    def start(
        self,
        env: Mapping[str, str],
        mounts: Sequence[Mount],
        argv: Sequence[str] = (),
        user: str = "",
    ) -> contextlib.AbstractContextManager[Container]: ...
    def close(self) -> None: ...


def run(
    argv: Sequence[str], fault: str, env: Mapping[str, str] | None = None, shown: bool = False
) -> str:
    """The command's output; raises EngineError with its last lines when it fails.

    Building takes minutes, so `shown` lets its steps through and keeps the rest to a file.
    """
    process = subprocess.Popen(
        argv, env=env, text=True, errors="replace", stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT if shown else subprocess.PIPE,
    )  # fmt: skip
    if not shown:
        text, errors = process.communicate()
        if process.returncode != 0:
            raise EngineError(f"{fault}:\n{tail(errors or text)}")
        return text
    lines = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        # buildah's and BuildKit's ways to name a step.
        if re.match(r"\[\d+/\d+\] STEP|#\d+ \[", line):
            say(f"  {line.rstrip()[:110]}")
    if process.wait() != 0:
        raise EngineError(f"{fault}:\n{tail(''.join(lines))}")
    return "".join(lines)


def tail(text: str) -> str:
    return "\n".join(text.splitlines()[-25:])


def output(argv: Sequence[str]) -> str:
    return run(argv, f"`{shlex.join(argv)}` failed")


def say(text: str) -> None:
    print(text, flush=True)
