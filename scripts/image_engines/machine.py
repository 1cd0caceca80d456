"""What the second way needs of this machine: its tools, and where its packages come from."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from image_engines.engine import EngineError, run, say


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
