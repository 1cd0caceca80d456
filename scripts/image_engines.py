"""Two ways to build the image and run it: a Docker engine, or buildah and namespaces of our own.

The second needs no daemon, only root on Debian or Ubuntu; what is missing there it installs.
"""

import ast
import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

PROJECT_DIR = Path(__file__).resolve().parent.parent
WORK_DIR = PROJECT_DIR / "build" / "image-test"
IMAGE = "localhost/qwen-image-edit-worker:test"
BASE = "localhost/qwen-image-edit-base:test"

# Measured with buildah: 31 GB at the most while it is built, since it holds 6 GB of torch in the
# stage, in the image, and in what it makes each of them from.
NEEDS_GB = 35


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


class Buildah:
    """No engine: buildah builds, and namespaces of our own run what it built."""

    def __init__(self, build_arguments: Sequence[str], keep: bool, mirror: str | None) -> None:
        self._build_arguments, self._keep, self._mirror = build_arguments, keep, mirror
        self._storage = WORK_DIR / "storage"
        # vfs would do without overlayfs, at a full copy of 7 GB for each of twenty layers.
        self._buildah = [
            "buildah", "--root", str(self._storage), "--runroot", str(WORK_DIR / "run"),
            "--storage-driver", "overlay",
        ]  # fmt: skip

    def build(self) -> None:
        prepare_machine()
        WORK_DIR.mkdir(parents=True, exist_ok=True)
        free_gb = shutil.disk_usage(WORK_DIR).free / 1e9
        if not self._keep and free_gb < NEEDS_GB:
            raise EngineError(f"{WORK_DIR} needs {NEEDS_GB} GB and {free_gb:.0f} GB are free")
        self._make_base()
        say("Building with buildah ...")
        argv = [
            *self._buildah, "bud", "--isolation", "chroot", "--format", "docker", "--layers",
            # This buildah would fetch the first FROM although nothing uses it.
            "--from", BASE, "--build-arg", f"BASE_IMAGE={BASE}",
        ]  # fmt: skip
        for argument in self._build_arguments:
            argv += ["--build-arg", argument]
        # A mount leaves an empty folder in the layer of each RUN that it was there for. The image's
        # own RUNs, all in `base`, go without, and the later calls find them done. The call in
        # between saves 6 GB: within one call buildah keeps what each stage was built in.
        mounts = self._machine_mounts()
        for target, more in (("base", []), ("comfy-env", mounts), ("worker", mounts)):
            done = "the image could not be built"
            call = [*argv, "--target", target, "--tag", f"{IMAGE}-{target}", *more]
            run([*call, str(PROJECT_DIR)], done, self._env(), shown=True)
        output([*self._buildah, "tag", f"{IMAGE}-worker", IMAGE])

    def _env(self) -> dict[str, str]:
        # It puts whole layers into temporary files.
        (WORK_DIR / "tmp").mkdir(exist_ok=True)
        return {**os.environ, "TMPDIR": str(WORK_DIR / "tmp")}

    def config(self) -> dict[str, Any]:
        return dict(self._inspect()["config"])

    def layers(self) -> list[Layer]:
        image = self._inspect()
        stored = json.loads((self._storage / "overlay-layers" / "layers.json").read_text())
        sizes = {entry["diff-digest"]: entry["diff-size"] for entry in stored}
        digests = iter(image["rootfs"]["diff_ids"])
        return [
            Layer(
                sizes[next(digests)],
                re.sub(r"^/bin/.*? -c (#\(nop\) )?", "", entry.get("created_by", "")),
            )
            for entry in image["history"]
            if not entry.get("empty_layer")
        ]

    @contextlib.contextmanager
    def start(
        self,
        env: Mapping[str, str],
        mounts: Sequence[Mount],
        argv: Sequence[str] = (),
        user: str = "",
    ) -> Iterator[Container]:
        name = output([*self._buildah, "from", "--pull-never", IMAGE]).strip()
        try:
            root = Path(output([*self._buildah, "mount", name]).strip())
            config = self.config()
            own = dict(entry.split("=", 1) for entry in config["Env"])
            for mount in mounts:
                (root / mount.target.lstrip("/")).mkdir(parents=True, exist_ok=True)
            command = [*config["Entrypoint"], *(argv or config["Cmd"])]
            container = NamespaceContainer(root, own | dict(env), config["WorkingDir"])
            try:
                container.start(mounts, command, user or config["User"])
                yield container
            finally:
                container.kill()
        finally:
            output([*self._buildah, "rm", name])

    def close(self) -> None:
        shutil.rmtree(WORK_DIR / "volume", ignore_errors=True)
        if self._keep or not self._storage.exists():
            return
        # buildah takes down its overlay mounts itself; a plain removal would fail on one left over.
        subprocess.run([*self._buildah, "rm", "--all"], capture_output=True)
        subprocess.run([*self._buildah, "rmi", "--all", "--force"], capture_output=True)
        subprocess.run(["umount", str(self._storage / "overlay")], capture_output=True)
        for folder in (self._storage, WORK_DIR / "run", WORK_DIR / "tmp"):
            shutil.rmtree(folder, ignore_errors=True)

    def _inspect(self) -> dict[str, Any]:
        text = output([*self._buildah, "inspect", "--type", "image", IMAGE])
        return dict(json.loads(text)["Docker"])

    def _make_base(self) -> None:
        """Debian as its image on Docker Hub is, with the updates that it gets."""
        archive = WORK_DIR / "debian-bookworm.tar"
        if not archive.exists():
            say(f"Making a Debian base with debootstrap, kept in {archive} ...")
            folder, part = WORK_DIR / "debian-bookworm", archive.with_suffix(".part")
            shutil.rmtree(folder, ignore_errors=True)
            argv = ["debootstrap", "--variant=minbase", "bookworm", str(folder)]
            run([*argv, *filter(None, [self._mirror])], "debootstrap failed")
            sources = folder / "etc/apt/sources.list"
            # "deb MIRROR bookworm main": the mirror that it took.
            mirror = sources.read_text().split()[1]
            sources.write_text(
                f"deb {mirror} bookworm main\n"
                f"deb {mirror} bookworm-updates main\n"
                f"deb {mirror}-security bookworm-security main\n"
            )
            for cache in (folder / "var/cache/apt/archives").glob("*.deb"):
                cache.unlink()
            run(["tar", "-C", str(folder), "-cf", str(part), "."], "the base can't be packed")
            part.rename(archive)
            shutil.rmtree(folder)
        if subprocess.run([*self._buildah, "inspect", BASE], capture_output=True).returncode == 0:
            return
        name = run([*self._buildah, "from", "scratch"], NO_OVERLAY).strip()
        run([*self._buildah, "add", "--quiet", name, str(archive), "/"], NO_OVERLAY)
        # The commit without a time, so that layers kept from an earlier run still match.
        argv = [*self._buildah, "commit", "--quiet", "--format", "docker", "--timestamp", "0"]
        run([*argv, "--rm", name, BASE], NO_OVERLAY)

    def _machine_mounts(self) -> list[str]:
        """This machine's pip settings and CA bundle, for the time of the build only."""
        settings = pip_settings()
        mounts = {f"{path}:{path}:ro" for path in local_folders(settings)}
        if bundle := settings.get("cert"):
            # Not over the image's own bundle: its package could then not be installed.
            mounts.add(f"{bundle}:/run/machine/ca.pem:ro")
            settings["cert"] = "/run/machine/ca.pem"
        if settings:
            lines = "".join(f"{key} = {value}\n" for key, value in sorted(settings.items()))
            (WORK_DIR / "pip.conf").write_text(f"[global]\n{lines}")
            mounts.add(f"{WORK_DIR / 'pip.conf'}:/etc/pip.conf:ro")
        return [part for mount in sorted(mounts) for part in ("--volume", mount)]


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


NO_OVERLAY = (
    f"buildah could not make an image under {WORK_DIR}; that folder must be on a file system that "
    "can carry overlayfs (ext4, xfs), so not inside a container"
)


def has_docker() -> bool:
    if shutil.which("docker") is None:
        return False
    argv = ["docker", "version", "--format", "{{.Server.Version}}"]
    return subprocess.run(argv, capture_output=True).returncode == 0


def prepare_machine() -> None:
    """Install buildah and debootstrap, or say who must."""
    missing = [name for name in ("buildah", "debootstrap") if shutil.which(name) is None]
    if os.geteuid() != 0:
        raise EngineError(
            "there is no Docker engine, and building without one needs root; start Docker, or run "
            "this as root on Debian or Ubuntu (sudo make test-image)"
        )
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise EngineError(f"there is no Docker engine; install it, or {' and '.join(missing)}")
    say(f"Installing {' and '.join(missing)} ...")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "--quiet"], "apt-get update failed", env=env)
    argv = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    run(argv, f"apt-get could not install {' and '.join(missing)}", env=env)


def pip_settings() -> dict[str, str]:
    """What pip is told on this machine about where packages come from, by files or environment."""
    argv = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(argv, capture_output=True, text=True).stdout
    wanted = ("cert", "index-url", "extra-index-url", "find-links", "trusted-host", "timeout")
    found = {}
    # The environment is listed first and outranks the files.
    for line in reversed(listed.splitlines()):
        key, _, value = line.partition("=")
        name = key.rpartition(".")[2]
        if name in wanted:
            found[name] = str(ast.literal_eval(value)).replace("\n", " ")
    return found


def local_folders(settings: Mapping[str, str]) -> set[Path]:
    """The folders of packages on this machine that pip's settings name."""
    found = set()
    for key in ("index-url", "extra-index-url", "find-links"):
        for word in settings.get(key, "").split():
            path = Path(word.removeprefix("file://"))
            if path.is_absolute() and path.is_dir():
                # The pages of an index lead to files beside it.
                found.add(path if key == "find-links" else path.parent)
    return found


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
