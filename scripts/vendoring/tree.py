"""A tree of files by the digest of each and of all."""

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

LISTED_AT_MOST = 10


def tree_files(root: Path, ignored: frozenset[str] = frozenset(), below: str = "") -> Iterator[str]:
    """POSIX paths of all that is no folder under `root`; links are named, never followed."""
    with os.scandir(root / below) as entries:
        for entry in entries:
            path = f"{below}{entry.name}"
            if entry.name in ignored or f"/{path}" in ignored:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from tree_files(root, ignored, f"{path}/")
            else:
                yield path


def tree_manifest(root: Path, ignored: frozenset[str] = frozenset()) -> dict[str, str]:
    """SHA-256 of each file under `root`, by its POSIX path."""
    return {path: file_sha256(root / path) for path in tree_files(root, ignored)}


def file_sha256(path: Path) -> str:
    # A link would make the tree depend on what lies outside it, and a pipe would block.
    if not stat.S_ISREG(path.lstat().st_mode):
        return "not a plain file"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_digest(manifest: Mapping[str, str]) -> str:
    """The one digest of a tree, as the lock's `tree_sha256` has it."""
    lines = sorted(os.fsencode(f"{sha256}  {path}\n") for path, sha256 in manifest.items())
    return hashlib.sha256(b"".join(lines)).hexdigest()


def differences(wanted: Mapping[str, str], found: Mapping[str, str]) -> str:
    """The first few files that differ, each on a line of its own."""
    marks = {path: "changed" for path in wanted if wanted[path] != found.get(path)}
    marks |= dict.fromkeys(wanted.keys() - found.keys(), "missing")
    marks |= dict.fromkeys(found.keys() - wanted.keys(), "extra  ")
    lines = [f"\n  {marks[path]}  {path}" for path in sorted(marks)]
    more = f"\n  and {len(lines) - LISTED_AT_MOST} more" if len(lines) > LISTED_AT_MOST else ""
    return "".join(lines[:LISTED_AT_MOST]) + more
