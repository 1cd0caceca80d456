"""What a run left, as the caller gets it: read, pictures compressed or converted, in order."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace

from handler.comfy_api import Execution, NodeText, SavedFile
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
) -> Outputs:
    """All that the run left, in the order of the nodes, saved files before previews. What is no
    picture lies in the job's folder afterwards.

    A thread can't be stopped. That of a cancelled job ends at its next file, since the job's folder
    is gone by then, and the end of the process does not wait for it.

    Raises ComfyProtocol for a file that is not there, lies outside ComfyUI's folders or is a broken
    picture; DiskFull or InternalError when a file can't be put into the job's folder.
    """
    return await in_daemon_thread(lambda: _read(folder, execution, encoding, finish))


def _read(
    folder: JobFolder, execution: Execution, encoding: Encoding | None, finish: PhotoFinish | None
) -> Outputs:
    texts, long_texts = _split(execution.texts)
    saved = [file for entry in execution.files for file in folder.sequence_of(entry)]
    saved += [folder.write_text(text, number) for number, text in enumerate(long_texts, 1)]
    # Each is finished before the next is read: hundreds of uncompressed frames would fill memory.
    files = [_as_asked(_read_file(folder, file), encoding, finish) for file in saved]
    kept = [_kept(folder, file, number) for number, file in enumerate(files)]
    return Outputs(tuple(sorted(kept, key=lambda file: file.is_preview)), tuple(texts))


def _read_file(folder: JobFolder, file: SavedFile) -> Output:
    return read_output(folder.path_of(file), file, folder.path_in_job(file))


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
