"""A job's own folders on disk: its pictures in, its files out, and nothing left at the end."""

import contextlib
import errno
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from handler.comfy import ComfyPaths
from handler.comfy_api import NodeText, SavedFile
from handler.errors import ComfyProtocol, DiskFull, InternalError, WorkerError
from handler.pictures import InputImage

# Where files go that are not the workflow's own names in the job's folder.
_KEPT = ".kept"
_JOB_FOLDER = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(\.gone)?")
# A file's time is that of the kernel's last tick (time(7)); ComfyUI's are whole milliseconds.
_CLOCK_LAG_S = 0.01
_ROUNDED_S = 0.001
_FRAME_NUMBER = re.compile(r"%0?\d*d")


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
        with _as_write_fault():
            for index, image in enumerate(images):
                extension = "png" if image.for_comfy else image.extension
                files[image.name] = f"{index}.{extension}"
                path = self.input_dir / self.name / files[image.name]
                path.write_bytes(image.for_comfy or image.data)
        return files

    def drop_strays(self, files: Iterable[SavedFile]) -> None:
        """Remove what a run left outside the job's folder: previews, and files of nodes that
        choose their own place."""
        for file in files:
            if file.folder_type in self._roots:
                with contextlib.suppress(OSError, ComfyProtocol):
                    path = self.path_of(file)
                    if not path.is_relative_to(self._own.resolve()):
                        path.unlink()

    def drop_new(self, spans: Iterable[tuple[float, float]]) -> None:
        """Remove what was written outside all jobs' folders in those times."""
        for start, end in spans:
            for path in self.new_files(start, end):
                with contextlib.suppress(OSError):
                    path.unlink()

    def own_files(self) -> list[Path]:
        """All that was saved in the job's folder."""
        return _files_under(self._own.resolve(), frozenset({_KEPT}))

    def new_files(self, start: float, end: float) -> list[Path]:
        """Those in ComfyUI's output folder, outside all jobs' folders, that were written between
        two times, in seconds since 1970. ComfyUI executes one prompt at a time, so they are of the
        one that ran then."""
        root = self.output_dir.resolve()
        jobs = frozenset(path.name for path in root.iterdir() if _JOB_FOLDER.fullmatch(path.name))
        return [
            path
            for path in _files_under(root, jobs)
            if start - _CLOCK_LAG_S <= path.lstat().st_ctime <= end + _ROUNDED_S
        ]

    def place_of(self, path: Path) -> tuple[str, str]:
        """A file in the output folder, as ComfyUI would name it: subfolder and name."""
        subfolder = str(path.parent.relative_to(self.output_dir.resolve()))
        return "" if subfolder == "." else subfolder, path.name

    def path_of(self, file: SavedFile) -> Path:
        """Raises ComfyProtocol for one that lies outside ComfyUI's folders."""
        return _path_under(self._roots[file.folder_type], file)

    def path_in_job(self, file: SavedFile) -> str:
        """Its place under the job's folder, without an extension."""
        subfolder = file.subfolder.removeprefix(self.name).removeprefix(f"/{_KEPT}").strip("/")
        stem = file.filename.rpartition(".")[0] or file.filename
        return f"{subfolder}/{stem}" if subfolder else stem

    def sequence_of(self, file: SavedFile) -> list[SavedFile]:
        """The files that one entry stands for: VHS_VideoCombine names the pictures of a sequence
        by a pattern such as clip_00001.%03d.png."""
        if not _FRAME_NUMBER.search(file.filename) or self.path_of(file).exists():
            return [file]
        frame = "[0-9]+".join(map(re.escape, _FRAME_NUMBER.split(file.filename)))
        folder = self.path_of(file).parent
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        return [
            replace(file, filename=name) for name in sorted(names) if re.fullmatch(frame, name)
        ] or [file]

    def write_text(self, text: NodeText, number: int) -> SavedFile:
        """The text as if its node had saved it. Raises DiskFull or InternalError."""
        file = SavedFile(text.node_id, f"text_{number:05}_.txt", f"{self.name}/{_KEPT}", "output")
        with _as_write_fault():
            self._kept(file.filename).write_text(text.text, encoding="utf-8")
        return file

    def keep(self, path: Path, number: int) -> Path:
        """Where the file is from now on: moved from elsewhere into the job's folder, where no later
        job writes. Raises DiskFull or InternalError."""
        if path.is_relative_to(self._own.resolve()):
            return path
        with _as_write_fault():
            kept = self._kept(str(number))
            shutil.move(path, kept)
        return kept

    @property
    def _roots(self) -> Mapping[str, Path]:
        return {"output": self.output_dir, "temp": self.temp_dir}

    @property
    def _own(self) -> Path:
        return self.output_dir / self.name

    def _kept(self, name: str) -> Path:
        kept = self._own / _KEPT / name
        kept.parent.mkdir(exist_ok=True)
        return kept


@contextlib.contextmanager
def open_job_folder(paths: ComfyPaths, name: str) -> Iterator[JobFolder]:
    """Make the job's folders; remove them with all they hold at the end, however it comes.

    Raises DiskFull, or InternalError when they can't be made.
    """
    # --temp-directory names the folder in which ComfyUI makes its `temp` (main.py).
    temp_dir = paths.temp_dir / "temp"
    made = [paths.input_dir / name, paths.output_dir / name]
    # Nodes that save previews under a filename_prefix make this one.
    places = [*made, temp_dir / name]
    try:
        with _as_write_fault():
            for place in made:
                place.mkdir(parents=True)
        yield JobFolder(name, paths.input_dir, paths.output_dir, temp_dir)
    finally:
        for place in places:
            _remove(place)


@contextlib.contextmanager
def _as_write_fault() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise _write_fault(exc) from exc


def _write_fault(exc: OSError) -> WorkerError:
    if exc.errno not in {errno.ENOSPC, errno.EDQUOT}:
        return InternalError(f"can't write the job's files: {exc.strerror}")
    error = DiskFull(
        "the job's files can't be written: no space is left; send the job again, and give the "
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


def _files_under(root: Path, passed_over: frozenset[str]) -> list[Path]:
    """In the order of their names. No links: they may lead to anything."""
    found: list[Path] = []
    for folder, folders, names in os.walk(root):
        if Path(folder) == root:
            folders[:] = [name for name in folders if name not in passed_over]
        folders.sort()
        paths = [Path(folder, name) for name in sorted(names)]
        found += [path for path in paths if stat.S_ISREG(path.lstat().st_mode)]
    return found


def _path_under(root: Path, file: SavedFile) -> Path:
    root = root.resolve()
    try:
        path = (root / file.subfolder / file.filename).resolve()
    except (ValueError, RuntimeError) as exc:  # a NUL, or links in a circle
        raise ComfyProtocol(f"node {file.node_id} names a file that can't exist") from exc
    if not path.is_relative_to(root):
        raise ComfyProtocol(f"node {file.node_id} names a file outside the output folder")
    return path
