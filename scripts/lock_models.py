"""Ask the hub anew what the files of a profile are, and write that into models.lock.

Comments, order and other profiles stay as they are. Look at the difference before you commit it:
a file that was replaced on the hub is other weights. HF_TOKEN and HF_ENDPOINT are used if set.
"""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

import httpx2

from handler.errors import WorkerError
from handler.hub import Hub, TryAgain
from handler.models import ModelFile, read_models_lock, sample_digest, sample_spans

_KEYS = ("revision", "bytes", "sha256", "sample_sha256")


class NotThere(Exception):
    """The hub has no such file, or has it outside of its large-file storage."""


def resolve(hub: Hub, model: ModelFile, branch: str) -> ModelFile:
    """`model` as it is at the head of `branch`, pinned to the commit that last changed it.

    Raises NotThere, ModelFetchFailed, TryAgain, httpx2.HTTPError.
    """
    found = hub.describe(model.repo, model.path, branch)
    if found is None:
        raise NotThere(f"{model.place}: {model.repo} has no large file {model.path} at {branch}")
    new = replace(model, revision=found.revision, bytes=found.bytes, sha256=found.sha256)
    spans = sample_spans(new.bytes)
    samples = [hub.read_part(new, start, length) for start, length in spans]
    if [len(sample) for sample in samples] != [length for _, length in spans]:
        raise NotThere(f"{model.place}: the hub does not serve parts of files")
    return replace(new, sample_sha256=sample_digest(samples))


def rewrite(text: str, old: ModelFile, new: ModelFile) -> str:
    """The lock's text with the pins of `old` replaced by those of `new`, comments kept."""
    blocks = text.split("[[model]]")
    for number, block in enumerate(blocks):
        if f'\nfile = "{old.file}"\n' in block and f'\nsha256 = "{old.sha256}"\n' in block:
            blocks[number] = _rewrite_block(block, new)
    return "[[model]]".join(blocks)


def _rewrite_block(block: str, new: ModelFile) -> str:
    lines = [line for line in block.split("\n") if not line.startswith("sample_sha256 =")]
    out = []
    for line in lines:
        key = line.partition(" = ")[0]
        out.append(_line(key, new) if key in _KEYS else line)
        if key == "sha256":
            out.append(_line("sample_sha256", new))
    return "\n".join(out)


def _line(key: str, model: ModelFile) -> str:
    value = getattr(model, key)
    return f"{key} = {value}" if isinstance(value, int) else f'{key} = "{value}"'


def main() -> int:
    arguments = _parser().parse_args()
    hub = Hub(os.environ.get("HF_ENDPOINT") or None, os.environ.get("HF_TOKEN") or None)
    try:
        text = arguments.lock.read_text(encoding="utf-8")
        for model in read_models_lock(arguments.lock, arguments.profile).models:
            new = resolve(hub, model, arguments.branch)
            text = rewrite(text, model, new)
            sys.stdout.write(f"{model.place}: {_difference(model, new)}\n")
        _replace(arguments.lock, text, arguments.profile)
    except (WorkerError, TryAgain, NotThere, OSError, httpx2.HTTPError) as exc:
        sys.stderr.write(f"{exc}\n{arguments.lock} stays as it was\n")
        return 1
    return 0


def _difference(old: ModelFile, new: ModelFile) -> str:
    if new.sha256 != old.sha256:
        return f"other bytes: {new.bytes:,}, sha256 {new.sha256}, commit {new.revision}"
    if new.revision != old.revision:
        return f"the same bytes at commit {new.revision}"
    return "unchanged" if new == old else "unchanged; samples written"


def _replace(lock: Path, text: str, profile: str | None) -> None:
    """Only a lock that can be read takes the old one's place."""
    new = lock.with_name(f".{lock.name}.new")
    try:
        new.write_text(text, encoding="utf-8")
        read_models_lock(new, profile)
        new.replace(lock)
    finally:
        new.unlink(missing_ok=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--lock",
        type=Path,
        default=Path(__file__).resolve().parent.parent / "models.lock",
        help="default: the repository's models.lock",
    )
    parser.add_argument("--profile", help="default: the lock's own")
    parser.add_argument("--branch", default="main", help="branch, tag or commit to ask for [main]")
    return parser


if __name__ == "__main__":
    sys.exit(main())
