"""One file that a node saved: what it is. Pictures are held in memory, other files stay on disk."""

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from handler.comfy_api import (
    HEAD_BYTES,
    FileKind,
    FileType,
    NodeText,
    SavedFile,
    extension_of,
    file_type,
)
from handler.errors import ComfyProtocol
from handler.pictures import DECODER_ERRORS

# Whatever shows pictures reads these, so a file that is called one and can't be read is broken.
_COMMON_PICTURES = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})


@dataclass(frozen=True, slots=True)
class OutputImage:
    """A picture. `path` is its place under the job's folder, with the workflow's own subfolders
    and without an extension; `frames` is above 1 when it moves; `changed_outside` counts pixels
    outside the job's mask that are not the caller's own, where there is one."""

    node_id: str
    filename: str
    path: str
    # What shows an object, such as asyncio a task's result, would make a text of megabytes of it.
    data: bytes = field(repr=False)
    content_type: str
    width: int
    height: int
    sha256: str
    frames: int = 1
    is_preview: bool = False
    changed_outside: int | None = None

    @property
    def extension(self) -> str:
        return extension_of(self.filename)

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    @property
    def body(self) -> bytes | Path:
        return self.data


@dataclass(frozen=True, slots=True)
class OutputFile:
    """Any other file. It is at `source` until the job's folder is removed: videos are large."""

    node_id: str
    filename: str
    path: str
    source: Path
    kind: FileKind
    content_type: str
    size_bytes: int
    sha256: str
    is_preview: bool = False

    @property
    def extension(self) -> str:
        return extension_of(self.filename)

    @property
    def body(self) -> bytes | Path:
        return self.source


Output = OutputImage | OutputFile


@dataclass(frozen=True, slots=True)
class Outputs:
    """All that a run gives back: what it saved before its previews."""

    files: tuple[Output, ...]
    texts: tuple[NodeText, ...]


def read_output(source: Path, saved: SavedFile, path: str, *, is_listed: bool = True) -> Output:
    """Raises ComfyProtocol for a file that can't be read, and for a broken picture that its node
    lists."""
    try:
        with source.open("rb") as file:
            kind = file_type(file.read(HEAD_BYTES), saved.filename)
        if kind.kind is FileKind.IMAGE and (
            image := _read_image(source, saved, path, kind, is_listed)
        ):
            return image
        with source.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except (OSError, ValueError) as exc:
        raise ComfyProtocol(
            f"{saved.filename}, which node {saved.node_id} saved, can't be read",
            node_id=saved.node_id,
            filename=saved.filename,
        ) from exc
    return OutputFile(
        saved.node_id, saved.filename, path, source,
        FileKind.OTHER if kind.kind is FileKind.IMAGE else kind.kind,
        kind.content_type, size, sha256, saved.folder_type == "temp",
    )  # fmt: skip


def _read_image(
    source: Path, saved: SavedFile, path: str, kind: FileType, is_listed: bool
) -> OutputImage | None:
    """None for a picture that Pillow can't read: of a rare format, or that nobody has promised."""
    data = source.read_bytes()
    try:
        with Image.open(io.BytesIO(data)) as picture:
            (width, height), frames = picture.size, getattr(picture, "n_frames", 1)
            content_type = picture.get_format_mimetype() or kind.content_type
            _check_whole(picture, frames)
    except DECODER_ERRORS as exc:
        if kind.content_type not in _COMMON_PICTURES or not is_listed:
            return None
        raise ComfyProtocol(
            f"{saved.filename}, which node {saved.node_id} saved, is no whole picture",
            node_id=saved.node_id,
            filename=saved.filename,
        ) from exc
    return OutputImage(
        saved.node_id, saved.filename, path, data, content_type, width, height,
        hashlib.sha256(data).hexdigest(), frames, saved.folder_type == "temp",
    )  # fmt: skip


def _check_whole(picture: Image.Image, frames: int) -> None:
    """Raises what Pillow raises. `picture` is freshly opened, as `verify` needs it."""
    if picture.format == "PNG":
        # By its checksums, those of an animation's frames too: far cheaper than decoding.
        picture.verify()
        return
    for frame in range(frames):
        picture.seek(frame)
        picture.load()
