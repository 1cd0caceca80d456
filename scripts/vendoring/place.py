"""The tree in its place: what is wrong with it, and another put there whole or not at all."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .lock import Lock, VendorError
from .sources import fetch, say
from .tree import differences, tree_digest, tree_files, tree_manifest

STAMP = ".vendored.json"

# Python writes __pycache__ anywhere; ComfyUI writes temp/ and user/ at the top of the tree when it
# is run by hand (the worker names its own folders). What a user keeps in user/ is never deleted.
REPLACEABLE = frozenset({"__pycache__", "/temp", f"/{STAMP}"})
NOT_UPSTREAM = REPLACEABLE | {"/user"}


def fault_in_place(lock: Lock, into: Path) -> tuple[str, str]:
    """What is wrong with the tree in place, and the files at fault; both empty when it is right."""
    if not into.is_dir():
        return f"There is no ComfyUI in {into}", ""
    found = tree_manifest(into, NOT_UPSTREAM)
    digest, stamp = tree_digest(found), read_stamp(into)
    if digest == lock.tree_sha256:
        return "", ""
    if tree_digest(stamp) == lock.tree_sha256:
        return f"{into} is not as it was vendored", differences(stamp, found)
    return f"{into} has digest {digest}, {lock.path} names {lock.tree_sha256}", ""


def refuse_to_delete(into: Path) -> None:
    """Raise if replacing `into` would delete a file that no earlier run put there."""
    if not into.exists():
        return
    if not into.is_dir():
        raise VendorError(f"{into} is not a folder; name another with --into.")
    stamp = read_stamp(into)
    if own := sorted(path for path in tree_files(into, REPLACEABLE) if path not in stamp):
        raise VendorError(
            f"{into} must be replaced, but holds {len(own)} files that this script did not put"
            f" there, such as {own[0]}; move them away, or remove the folder, and run again."
        )


@contextmanager
def workspace(into: Path) -> Iterator[Path]:
    """A fresh folder beside `into`, so that one rename puts a tree in place; one run at a time."""
    work = into.parent / f".{into.name}.vendoring"
    into.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(into.parent, os.O_RDONLY)
    try:
        os.set_inheritable(descriptor, True)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        restore(into, work / "old")
        if work.exists():
            shutil.rmtree(work)
        work.mkdir()
        # What a killed run leaves behind must not be committed.
        (work / ".gitignore").write_text("*\n", encoding="utf-8")
        try:
            yield work
        finally:
            restore(into, work / "old")
            # The next run removes what cannot be removed now.
            shutil.rmtree(work, ignore_errors=True)
    finally:
        os.close(descriptor)


def restore(into: Path, old: Path) -> None:
    """Bring the old tree back where a run ended after it was moved aside, before the new came."""
    if old.exists() and not into.exists():
        old.rename(into)


def vendor(lock: Lock, source: str, into: Path) -> None:
    """Make `into` the lock's tree, whole or not at all."""
    with workspace(into) as work:
        refuse_to_delete(into)
        manifest = fetch(lock, source, work / "tree")
        say(f"Checking {len(manifest)} files against {lock.path}")
        if (digest := tree_digest(manifest)) != lock.tree_sha256:
            known = read_stamp(into)
            is_same_lock = tree_digest(known) == lock.tree_sha256
            raise VendorError(
                f"The fetched tree has digest {digest}, `tree_sha256` in {lock.path} is"
                f" {lock.tree_sha256}; for a new commit do as that file says, else try the"
                f" other --source.{differences(known, manifest) if is_same_lock else ''}"
            )
        (work / "tree" / STAMP).write_text(json.dumps(manifest, indent=0), encoding="utf-8")
        if into.exists():
            into.rename(work / "old")
        (work / "tree").rename(into)
    say(f"{lock} is now in {into}")


def read_stamp(into: Path) -> dict[str, str]:
    """The manifest that came with the tree in place; empty when there is none to read."""
    try:
        files = json.loads((into / STAMP).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return {str(path): str(sha256) for path, sha256 in files.items()} if type(files) is dict else {}
