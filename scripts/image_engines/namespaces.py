"""A container without an engine: a root folder and namespaces of our own."""

import contextlib
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from image_engines.engine import WORK_DIR, Mount


class NamespaceContainer:
    """A root folder run in mount and PID namespaces of its own, on the host's network."""

    def __init__(self, root: Path, env: Mapping[str, str], cwd: str) -> None:
        self._root, self._env, self._cwd = root, env, cwd
        self._log = WORK_DIR / "container.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._first_pid = 0

    def start(self, mounts: Sequence[Mount], argv: Sequence[str], user: str) -> None:
        root = shlex.quote(str(self._root))
        lines = ["set -e", f"mount -t proc proc {root}/proc", f"mount --rbind /dev {root}/dev"]
        lines += [f"mount -t sysfs -o ro sysfs {root}/sys"]
        for mount in mounts:
            source, target = shlex.quote(str(mount.source)), shlex.quote(mount.target)
            lines.append(f"mount --bind {source} {root}{target}")
            if not mount.writable:
                lines.append(f"mount -o remount,bind,ro {root}{target}")
        lines.append(f"exec {shlex.join(self._inside(argv, user))}")
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*namespaces, "--propagation", "private", "sh", "-c", "\n".join(lines)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        while self._process.poll() is None and not self._first_pid:
            with contextlib.suppress(OSError, ValueError):
                pid = int(children.read_text())
                # Until then the shell still mounts.
                if Path(f"/proc/{pid}/comm").read_text().strip() == Path(argv[0]).name:
                    self._first_pid = pid
            time.sleep(0.01)

    def _inside(self, argv: Sequence[str], user: str) -> list[str]:
        chroot = ["chroot", f"--userspec={user}", "--groups=", str(self._root)]
        env = [f"{key}={value}" for key, value in self._env.items()]
        return [*chroot, "/usr/bin/env", "-i", "-C", self._cwd, *env, *argv]

    def execute(self, argv: Sequence[str], user: int) -> subprocess.CompletedProcess[str]:
        enter = ["nsenter", "--target", str(self._first_pid), "--mount", "--pid", "--"]
        command = [*enter, *self._inside(argv, f"{user}:{user}")]
        return subprocess.run(command, capture_output=True, text=True)

    def exit_code(self) -> int | None:
        assert self._process is not None
        return self._process.poll()

    def terminate(self) -> None:
        subprocess.run(["kill", "-TERM", str(self._first_pid)])

    def log(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-40:])

    def kill(self) -> None:
        if self._process is not None:
            # unshare takes its child, PID 1 there, with it, and that all the others.
            self._process.kill()
            self._process.wait()
