"""Whether a file is what `models.lock` says: by its size, header and samples, or whole."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

from handler.errors import ModelCorrupt
from handler.models.lock import ModelFile

# The safetensors library refuses a longer header (MAX_HEADER_SIZE in its source).
_MAX_HEADER_BYTES = 100_000_000
_READ_BYTES = 8 * 1024 * 1024
_SAMPLES = 16
_SAMPLE_BYTES = 4096

FaultKind = Literal[
    "empty", "git_lfs_pointer", "html_page", "not_safetensors", "truncated", "wrong_size",
    "other_file", "wrong_sha256", "unreadable",
]  # fmt: skip


def sample_spans(size: int) -> list[tuple[int, int]]:
    """Offset and length, in bytes, of the parts that tell a file of `size` bytes from its siblings.

    A few spread evenly, the first at the start and the last at the end: files of one structure
    share size and header, and their tensors differ everywhere.
    """
    length = min(_SAMPLE_BYTES, size)
    last = _SAMPLES - 1
    return [((size - length) * number // last, length) for number in range(_SAMPLES)]


def sample_digest(samples: Iterable[bytes]) -> str:
    """SHA-256, in hex, of the parts named by `sample_spans`, one after the other."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(sample)
    return digest.hexdigest()


def check_model(model: ModelFile, path: Path) -> None:
    """Tell in milliseconds whether `path` can be `model`: size, safetensors header and samples.

    The format (8 bytes of header length, little-endian; JSON; data) is that of the safetensors
    README. Wrong bytes between the samples show only in `hash_model`, and with no `sample_sha256`
    in the lock so does another file of the same size. Raises ModelCorrupt; its `details["kind"]`
    is a FaultKind.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            _check_content(model, path, file, size)
    except OSError as exc:
        raise _unreadable(model, path, exc) from exc


def _check_content(model: ModelFile, path: Path, file: BinaryIO, size: int) -> None:
    start = file.read(512)
    if size == 0:
        raise _corrupt(model, path, "empty", "it is empty: fetch it again", actual_bytes=0)
    if start.startswith(b"version https://git-lfs"):
        raise _corrupt(
            model,
            path,
            "git_lfs_pointer",
            "it is a git-LFS pointer, not the weights: run `git lfs pull` in the clone it comes "
            "from, or fetch it again",
            actual_bytes=size,
        )
    if start.lstrip(b"\xef\xbb\xbf \t\r\n")[:9].lower().startswith((b"<!doctype", b"<html")):
        raise _corrupt(
            model,
            path,
            "html_page",
            "it is a web page, not the weights: the download was answered by a login or error "
            "page; fetch it again from the file's own address",
            actual_bytes=size,
        )
    declared = _declared_bytes(model, path, file, size)
    if size < declared:
        raise _truncated(model, path, size, declared)
    if size != declared:
        fault = f"its header speaks of {declared:,} bytes and the file has {size:,}"
        raise _not_safetensors(model, path, fault, size)
    if size != model.bytes:
        raise _corrupt(
            model,
            path,
            "wrong_size",
            f"it is a whole safetensors file of {size:,} bytes, and the locked one has "
            f"{model.bytes:,}: another version or precision under this name; fetch the locked one",
            actual_bytes=size,
        )
    if model.sample_sha256 and sample_digest(_samples(file, size)) != model.sample_sha256:
        raise _corrupt(
            model,
            path,
            "other_file",
            "it has the size of the locked file and other contents: a sibling under this name, or "
            "damaged; fetch the locked one",
            actual_bytes=size,
        )


def _samples(file: BinaryIO, size: int) -> Iterator[bytes]:
    for start, length in sample_spans(size):
        file.seek(start)
        yield file.read(length)


def _declared_bytes(model: ModelFile, path: Path, file: BinaryIO, size: int) -> int:
    """How long the file must be by its own header."""
    file.seek(0)
    prefix = file.read(9)
    length = int.from_bytes(prefix[:8], "little")
    if not prefix.strip(b"\0"):
        fault = "it begins with zeros, as a download that reserved its space does"
        raise _not_safetensors(model, path, fault, size)
    if len(prefix) < 9 or prefix[8:] != b"{" or length > _MAX_HEADER_BYTES:
        raise _not_safetensors(model, path, "it does not begin with a header", size)
    if size < 8 + length:
        # Cut within its header: the lock is the only one left to say how long it was to be.
        raise _truncated(model, path, size, max(model.bytes, 8 + length))
    file.seek(8)
    try:
        return 8 + length + _data_bytes(json.loads(file.read(length)))
    except (ValueError, RecursionError) as exc:
        raise _not_safetensors(model, path, "its header is damaged", size) from exc


def _data_bytes(header: dict[str, Any]) -> int:
    """Raises ValueError for a tensor without data offsets."""
    end = 0
    for name, tensor in header.items():
        match tensor:
            case {"data_offsets": [int(first), int(last)]} if 0 <= first <= last:
                end = max(end, last)
            case _ if name != "__metadata__":
                raise ValueError(f"no data offsets for {name!r}")
    return end


def _not_safetensors(model: ModelFile, path: Path, fault: str, size: int) -> ModelCorrupt:
    text = f"it is not a safetensors file: {fault}; fetch it again"
    return _corrupt(model, path, "not_safetensors", text, actual_bytes=size)


def _truncated(model: ModelFile, path: Path, size: int, whole: int) -> ModelCorrupt:
    return _corrupt(
        model,
        path,
        "truncated",
        f"it is cut off: {size:,} of {whole:,} bytes; the download was not finished, or the disk "
        "is full; fetch it again",
        actual_bytes=size,
    )


def hash_model(model: ModelFile, path: Path, progress: Callable[[int], None]) -> None:
    """Compare the whole file with the lock. `progress` gets the bytes hashed so far.

    Raises ModelCorrupt.
    """
    digest = hashlib.sha256()
    # Not mmap: on a network volume a read error there is a SIGBUS that ends the process.
    buffer = memoryview(bytearray(_READ_BYTES))
    done = 0
    try:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                digest.update(buffer[:count])
                done += count
                progress(done)
    except OSError as exc:
        raise _unreadable(model, path, exc) from exc
    if digest.hexdigest() != model.sha256:
        raise _corrupt(
            model,
            path,
            "wrong_sha256",
            f"its bytes are not the locked ones: sha256 is {digest.hexdigest()}, and the lock has "
            f"{model.sha256}; damaged, or another file under this name; fetch it again",
            actual_bytes=done,
            actual_sha256=digest.hexdigest(),
            expected_sha256=model.sha256,
        )


def _unreadable(model: ModelFile, path: Path, exc: OSError) -> ModelCorrupt:
    return _corrupt(model, path, "unreadable", f"it can't be read: {exc.strerror}")


def _corrupt(
    model: ModelFile, path: Path, kind: FaultKind, fault: str, **details: Any
) -> ModelCorrupt:
    return ModelCorrupt(
        f"{path}: {fault}",
        file=model.file,
        path=str(path),
        kind=kind,
        expected_bytes=model.bytes,
        **details,
    )
