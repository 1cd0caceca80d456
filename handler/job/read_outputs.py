"""What a run left, as the caller gets it: read, pictures compressed or converted, in order."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from handler.comfy_api import Execution, NodeText, SavedFile, no_output
from handler.contract import ImageFormat
from handler.job.folder import JobFolder
from handler.job.outputs import Output, OutputImage, Outputs, read_output
from handler.job.photo_finish import PhotoFinish
from handler.job.reencode import Encoding, reencode
from handler.machine import in_daemon_thread
from handler.pictures import compress

# Texts that are longer, all together, are files. An answer takes 10 MB, a reader much less.
TEXT_BYTES = 100_000


async def read_outputs(
    folder: JobFolder,
    execution: Execution,
    encoding: Encoding | None,
    finish: PhotoFinish | None = None,
    prompt: Mapping[str, Any] = MappingProxyType({}),
) -> Outputs:
    """All that the run left: what nodes list, in their order, saved files before previews, and
    what was written and no node lists. What is no picture lies in the job's folder afterwards.

    A thread can't be stopped. That of a cancelled job ends at its next file, since the job's folder
    is gone by then, and the end of the process does not wait for it.

    Raises NoOutput where it left nothing; ComfyProtocol for a file that is not there, lies outside
    ComfyUI's folders or is a broken picture; DiskFull or InternalError when a file can't be put
    into the job's folder.
    """
    return await in_daemon_thread(lambda: _read(folder, execution, encoding, finish, prompt))


def _read(
    folder: JobFolder,
    execution: Execution,
    encoding: Encoding | None,
    finish: PhotoFinish | None,
    prompt: Mapping[str, Any],
) -> Outputs:
    texts, long_texts = _split(execution.texts)
    saved = [file for entry in execution.files for file in folder.sequence_of(entry)]
    unlisted = _unlisted(folder, execution, saved, prompt)
    saved += unlisted
    if not (saved or execution.texts):
        raise no_output(execution)
    saved += [folder.write_text(text, number) for number, text in enumerate(long_texts, 1)]
    # Each is finished before the next is read: hundreds of uncompressed frames would fill memory.
    files = [
        _as_asked(_read_file(folder, file, is_listed=file not in unlisted), encoding, finish)
        for file in saved
    ]
    kept = [_kept(folder, file, number) for number, file in enumerate(files)]
    return Outputs(tuple(sorted(kept, key=lambda file: file.is_preview)), tuple(texts))


def _unlisted(
    folder: JobFolder, execution: Execution, listed: Iterable[SavedFile], prompt: Mapping[str, Any]
) -> list[SavedFile]:
    """Files of nodes that tell nobody what they save (ModelSave, VAESave), or only its name (the
    3D models of API nodes)."""
    known = {folder.path_of(file) for file in listed if file.folder_type != "input"}
    paths = folder.own_files()
    if execution.started_at_s is not None and execution.ended_at_s is not None:
        paths += folder.new_files(execution.started_at_s, execution.ended_at_s)
    places = [folder.place_of(path) for path in paths if path not in known]
    return [
        SavedFile(_saver_of(f"{subfolder}/{name}", prompt), name, subfolder, "output")
        for subfolder, name in places
    ]


def _saver_of(place: str, prompt: Mapping[str, Any]) -> str:
    """The node whose prefix the file has; "" where there is none."""
    prefixes = {
        prefix: node_id
        for node_id, node in prompt.items()
        if isinstance(prefix := node["inputs"].get("filename_prefix"), str)
        and place.startswith(prefix)
    }
    return prefixes[max(prefixes, key=len)] if prefixes else ""


def _read_file(folder: JobFolder, file: SavedFile, *, is_listed: bool) -> Output:
    return read_output(folder.path_of(file), file, folder.path_in_job(file), is_listed=is_listed)


def _as_asked(file: Output, encoding: Encoding | None, finish: PhotoFinish | None) -> Output:
    if not isinstance(file, OutputImage):
        return file
    if finish is not None:
        is_final = encoding is None or encoding.format is ImageFormat.PNG
        file = finish.apply(file, is_final=is_final)
    if encoding is not None:
        file = reencode(file, encoding)
    if (data := compress(file.data)) is file.data:
        return file
    return replace(file, data=data, sha256=hashlib.sha256(data).hexdigest())


def _kept(folder: JobFolder, file: Output, number: int) -> Output:
    if isinstance(file, OutputImage):
        return file
    return replace(file, source=folder.keep(file.source, number))


def _split(texts: Iterable[NodeText]) -> tuple[list[NodeText], list[NodeText]]:
    """Those that an answer holds, and those that do not fit into TEXT_BYTES with those before."""
    short: list[NodeText] = []
    long: list[NodeText] = []
    room = TEXT_BYTES
    for text in texts:
        size = len(text.text.encode())
        if size <= room:
            short.append(text)
            room -= size
        else:
            long.append(text)
    return short, long
