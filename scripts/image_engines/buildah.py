"""No engine: buildah builds, and namespaces of our own run what it built."""

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from image_engines.engine import (
    IMAGE,
    PROJECT_DIR,
    WORK_DIR,
    Container,
    EngineError,
    Layer,
    Mount,
    output,
    run,
    say,
)
from image_engines.machine import local_folders, pip_settings, prepare_machine
from image_engines.namespaces import NamespaceContainer

BASE = "localhost/qwen-image-edit-base:test"

# Measured with buildah: 31 GB at the most while it is built, since it holds 6 GB of torch in the
# stage, in the image, and in what it makes each of them from.
NEEDS_GB = 35
NO_OVERLAY = (
    f"buildah could not make an image under {WORK_DIR}; that folder must be on a file system that "
    "can carry overlayfs (ext4, xfs), so not inside a container"
)


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
