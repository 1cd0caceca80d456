"""A look inside the image, by its own Python: `processes` and `unwanted`, as JSON."""

import json
import os
import shutil
import sys
from pathlib import Path

# What is mounted or written at run time is not the image's.
SKIPPED = {"/proc", "/sys", "/dev", "/tmp", "/run", "/mnt", "/runpod-volume"}
CACHES = ("/root/.cache", "/home/worker/.cache", "/var/lib/apt/lists", "/var/cache/apt")
COMPILED = ("/app", "/comfyui", "/opt/comfy/lib", "/opt/handler/lib")
BUILD_TOOLS = ("cc", "gcc", "g++", "ld", "make", "git", "pip", "pip3", "curl", "wget")
# Of a newer Python than the image's.
NOT_COMPILED = "py312_intrinsics.py"
FOR_THE_BUILD = ("/etc/pip.conf", "/run/machine", "/build")
TEST_TOOLS = ("pytest", "_pytest", "mypy", "hypothesis", "moto")


def processes() -> list[dict[str, object]]:
    """All but this one, in no order."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, uid = (folder / "comm").read_text().strip(), folder.stat().st_uid
        except OSError:
            continue
        if folder.name != str(os.getpid()):
            found.append({"pid": int(folder.name), "uid": uid, "name": name})
    return found


def unwanted() -> dict[str, list[str]]:
    """Paths by what is wrong with them."""
    kinds: dict[str, list[str]] = {
        ".git": [], "tests or test tools": [], "pip": [], "build tools": [], "caches": [],
        "file of the building machine": [], "module without byte code": [],
    }  # fmt: skip
    for top, folders, files in os.walk("/"):
        folder = Path(top)
        folders[:] = [name for name in folders if str(folder / name) not in SKIPPED]
        for name in folders:
            if kind := _kind_of_folder(folder / name):
                kinds[kind].append(str(folder / name))
        for name in files:
            if kind := _kind_of_file(folder / name):
                kinds[kind].append(str(folder / name))
    kinds["build tools"] += [path for tool in BUILD_TOOLS if (path := shutil.which(tool))]
    left = [path for path in map(Path, FOR_THE_BUILD) if path.exists() or path.is_symlink()]
    left += [path for path in Path("/opt").iterdir() if path.name not in ("comfy", "handler")]
    kinds["file of the building machine"] += map(str, left)
    return kinds


def _kind_of_folder(path: Path) -> str | None:
    if path.name == ".git":
        return ".git"
    if path.name in ("pip", "ensurepip"):
        return "pip"
    # Packages may hold tests of their own: they are left as they are locked.
    is_ours = str(path.parent) in ("/app", "/comfyui", "/opt")
    if path.name in TEST_TOOLS or (path.name in ("tests", "tests-unit") and is_ours):
        return "tests or test tools"
    return None


def _kind_of_file(path: Path) -> str | None:
    if path.suffix == ".whl" or str(path).startswith(CACHES):
        return "caches"
    if path.suffix == ".py" and str(path).startswith(COMPILED) and path.name != NOT_COMPILED:
        compiled = f"{path.stem}.{sys.implementation.cache_tag}.pyc"
        if not (path.parent / "__pycache__" / compiled).exists():
            return "module without byte code"
    return None


if __name__ == "__main__":
    print(json.dumps({"processes": processes, "unwanted": unwanted}[sys.argv[1]]()))
