"""A Docker engine."""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from image_engines.engine import (
    IMAGE,
    PROJECT_DIR,
    WORK_DIR,
    Container,
    Layer,
    Mount,
    output,
    run,
    say,
)


def has_docker() -> bool:
    if shutil.which("docker") is None:
        return False
    argv = ["docker", "version", "--format", "{{.Server.Version}}"]
    return subprocess.run(argv, capture_output=True).returncode == 0


class Docker:
    """A Docker engine on this machine."""

    def __init__(
        self,
        build_arguments: Sequence[str],
        keep: bool,
        image: str = IMAGE,
        run_arguments: Sequence[str] = (),
    ) -> None:
        self._build_arguments, self._keep = build_arguments, keep
        self._image, self._run_arguments = image, run_arguments

    def build(self) -> None:
        say("Building with Docker ...")
        env = {**os.environ, "DOCKER_BUILDKIT": "1"}
        argv = ["docker", "build", "--target", "worker", "--tag", self._image]
        for argument in self._build_arguments:
            argv += ["--build-arg", argument]
        run([*argv, str(PROJECT_DIR)], "the image could not be built", env=env, shown=True)

    def config(self) -> dict[str, Any]:
        text = output(["docker", "image", "inspect", self._image])
        return dict(json.loads(text)[0]["Config"])

    def layers(self) -> list[Layer]:
        argv = ["docker", "history", "--no-trunc", "--human=false", "--format", "{{json .}}"]
        argv.append(self._image)
        entries = [json.loads(line) for line in output(argv).splitlines()]
        found = [Layer(int(entry["Size"]), entry["CreatedBy"]) for entry in reversed(entries)]
        return [layer for layer in found if layer.size]

    @contextlib.contextmanager
    def start(
        self,
        env: Mapping[str, str],
        mounts: Sequence[Mount],
        argv: Sequence[str] = (),
        user: str = "",
    ) -> Iterator[Container]:
        name = f"qwen-image-test-{os.getpid()}"
        # The host's network, so that the worker reaches the stand-in on loopback.
        command = ["docker", "run", "--detach", "--name", name, "--network", "host"]
        command += self._run_arguments
        for mount in mounts:
            mode = "rw" if mount.writable else "ro"
            command += ["--volume", f"{mount.source}:{mount.target}:{mode}"]
        for key, value in env.items():
            command += ["--env", f"{key}={value}"]
        command += ["--user", user] if user else []
        try:
            run([*command, self._image, *argv], "the container could not be started")
            yield DockerContainer(name)
        finally:
            subprocess.run(["docker", "rm", "--force", name], capture_output=True)

    def close(self) -> None:
        shutil.rmtree(WORK_DIR / "volume", ignore_errors=True)
        if not self._keep:
            subprocess.run(["docker", "image", "rm", self._image], capture_output=True)


@dataclass(frozen=True)
class DockerContainer:
    name: str

    def execute(self, argv: Sequence[str], user: int) -> subprocess.CompletedProcess[str]:
        command = ["docker", "exec", "--user", str(user), self.name, *argv]
        return subprocess.run(command, capture_output=True, text=True)

    def exit_code(self) -> int | None:
        text = output(["docker", "inspect", "--format", "{{json .State}}", self.name])
        state = json.loads(text)
        return None if state["Running"] else int(state["ExitCode"])

    def terminate(self) -> None:
        output(["docker", "kill", "--signal", "TERM", self.name])

    def log(self) -> str:
        done = subprocess.run(["docker", "logs", "--tail", "40", self.name], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
        return done.stdout
