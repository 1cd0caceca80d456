"""A job's own folders on disk: its pictures in, its pictures out, and nothing left at the end."""

import contextlib
import errno
import hashlib
import io
import mimetypes
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from handler.comfy_process import ComfyPaths
from handler.errors import ComfyProtocol, DiskFull, InternalError, UnsupportedOutput, WorkerError
from handler.history import Execution, SavedFile
from handler.images import InputImage


@dataclass(frozen=True, slots=True)
class OutputImage:
    """A picture that the workflow saved. `path` is its place under the job's folder, with the
    workflow's own subfolders and without an extension."""

    node_id: str
    filename: str
    path: str
    data: bytes
    content_type: str
    width: int
    height: int
    sha256: str

    @property
    def extension(self) -> str:
        return self.filename.rpartition(".")[2].lower()


@dataclass(frozen=True, slots=True)
class JobFolder:
    """`name` is relative to ComfyUI's input and output folders."""

    name: str
    input_dir: Path
    output_dir: Path
    temp_dir: Path

    def write_images(self, images: Iterable[InputImage]) -> Mapping[str, str]:
        """Write the pictures; returns each one's file name by its name.

        A caller's name never becomes a file name: ComfyUI reads meaning into some of them.
        Raises DiskFull, or InternalError when the folder is not writable.
        """
        files: dict[str, str] = {}
        try:
            for index, image in enumerate(images):
                files[image.name] = f"{index}.{image.extension}"
                (self.input_dir / self.name / files[image.name]).write_bytes(image.data)
        except OSError as exc:
            raise _write_fault(exc) from exc
        return files

    def read_images(self, execution: Execution) -> list[OutputImage]:
        """Read what was saved, in the order of the nodes. Raises ComfyProtocol for a file that is
        not there or lies outside the output folder, UnsupportedOutput for one that is no picture.
        """
        return [self._read(file) for file in execution.saved]

    def drop_strays(self, files: Iterable[SavedFile]) -> None:
        """Remove what a run left outside the job's folder: previews, and files of nodes that
        choose their own place."""
        roots = {"output": self.output_dir, "temp": self.temp_dir}
        for file in files:
            if root := roots.get(file.folder_type):
                with contextlib.suppress(OSError, ComfyProtocol):
                    _path_under(root, file).unlink()

    def _read(self, file: SavedFile) -> OutputImage:
        path = _path_under(self.output_dir, file)
        try:
            data = path.read_bytes()
        except (OSError, ValueError) as exc:
            raise ComfyProtocol(
                f"{file.filename}, which node {file.node_id} saved, can't be read",
                node_id=file.node_id,
                filename=file.filename,
            ) from exc
        try:
            with Image.open(io.BytesIO(data)) as picture:
                (width, height), kind = picture.size, picture.get_format_mimetype()
        except (OSError, SyntaxError, ValueError) as exc:
            raise UnsupportedOutput(
                f"{file.filename}, which node {file.node_id} saved, is no picture; "
                "this worker returns pictures only",
                node_id=file.node_id,
                filename=file.filename,
            ) from exc
        content_type = kind or mimetypes.guess_type(file.filename)[0] or "application/octet-stream"
        return OutputImage(
            file.node_id,
            file.filename,
            self._path_in_job(file),
            data,
            content_type,
            width,
            height,
            hashlib.sha256(data).hexdigest(),
        )

    def _path_in_job(self, file: SavedFile) -> str:
        subfolder = file.subfolder.removeprefix(self.name).strip("/")
        stem = file.filename.rpartition(".")[0] or file.filename
        return f"{subfolder}/{stem}" if subfolder else stem


@contextlib.contextmanager
def open_job_folder(paths: ComfyPaths, name: str) -> Iterator[JobFolder]:
    """Make the job's folders; remove them with all they hold at the end, however it comes.

    Raises DiskFull, or InternalError when they can't be made.
    """
    places = [paths.input_dir / name, paths.output_dir / name]
    # --temp-directory names the folder in which ComfyUI makes its `temp` (main.py).
    temp_dir = paths.temp_dir / "temp"
    try:
        try:
            for place in places:
                place.mkdir(parents=True)
        except OSError as exc:
            raise _write_fault(exc) from exc
        yield JobFolder(name, paths.input_dir, paths.output_dir, temp_dir)
    finally:
        for place in places:
            _remove(place)


def _write_fault(exc: OSError) -> WorkerError:
    if exc.errno not in {errno.ENOSPC, errno.EDQUOT}:
        return InternalError(f"can't write the job's pictures: {exc.strerror}")
    error = DiskFull(
        "the job's pictures can't be written: no space is left; send the job again, and give the "
        "endpoint a larger container disk, or set WORKER_RUN_DIR to a folder with more space"
    )
    # Jobs remove what they leave, so nothing in this worker will free the disk.
    error.refresh_worker = True
    return error


def _remove(place: Path) -> None:
    """A thread of a cancelled job may still be writing here: renaming ends that, and what it adds
    meanwhile would make rmtree fail."""
    gone = place.with_name(f"{place.name}.gone")
    with contextlib.suppress(OSError):
        place.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _path_under(root: Path, file: SavedFile) -> Path:
    root = root.resolve()
    try:
        path = (root / file.subfolder / file.filename).resolve()
    except (ValueError, RuntimeError) as exc:  # a NUL, or links in a circle
        raise ComfyProtocol(f"node {file.node_id} names a file that can't exist") from exc
    if not path.is_relative_to(root):
        raise ComfyProtocol(f"node {file.node_id} names a file outside the output folder")
    return path
