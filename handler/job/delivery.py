"""Where files go: into the answer, or into the bucket when asked or when they are too large."""

import asyncio
import base64
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import PurePosixPath
from typing import Any

from handler.bucket import Bucket
from handler.contract import Delivery
from handler.errors import InvalidInput, OutputTooLarge
from handler.job.answer import Place, Stored, encoded_bytes
from handler.job.outputs import Output, OutputImage
from handler.job.parse import Job
from handler.machine import run_at_once

# Each upload has a time limit of its own, so those at once share the line's speed. Two jobs' stay
# within the connections that botocore keeps open (10).
_AT_ONCE = 4

_SHOWN_FILES = 3
_LEFT_OUT = "image_base64: RunPod takes no answer that holds the picture twice; see images[0].data"

BuildAnswer = Callable[[Sequence[Stored]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class AnswerLimits:
    """The largest body that RunPod takes, in bytes, for each route."""

    run_bytes: int
    runsync_bytes: int

    def of(self, job: Job) -> int:
        return self.runsync_bytes if job.is_runsync else self.run_bytes


class Deliverer:
    """`bucket` is None on a worker that has none."""

    def __init__(self, bucket: Bucket | None, limits: AnswerLimits) -> None:
        self._bucket = bucket
        self._limits = limits

    def check(self, job: Job) -> None:
        """Raises InvalidInput, before any work, when the job asks for a bucket that is not set."""
        if job.delivery is Delivery.BUCKET and self._bucket is None:
            raise InvalidInput(
                "input.output.delivery is 'bucket', and this worker has none; "
                "set the BUCKET_ variables or ask for 'base64'"
            )

    async def deliver(
        self, job: Job, files: Sequence[Output], build: BuildAnswer
    ) -> dict[str, Any]:
        """The whole answer; all of `files` go one way. Raises UploadFailed or OutputTooLarge."""
        limit = self._limits.of(job)
        if self._bucket is None or job.delivery is Delivery.BASE64:
            size, size_once = _inline_answer_bytes(files, build)
            if min(size, size_once) <= limit:
                answer = await asyncio.to_thread(lambda: build([_inline(file) for file in files]))
                if size > limit:
                    del answer["image_base64"]
                    answer["left_out"] = _LEFT_OUT
                return answer
            if self._bucket is None:
                raise OutputTooLarge(
                    f"the answer has {min(size, size_once)} bytes and RunPod takes {limit} on this "
                    "route; set the BUCKET_ variables so that large files become addresses; "
                    f"{_largest(files)}",
                    answer_bytes=min(size, size_once), limit_bytes=limit,
                )  # fmt: skip
        answer = build(await self._upload(job, files))
        if (size := encoded_bytes(answer)) > limit:
            raise OutputTooLarge(
                f"the answer has {size} bytes with all {len(files)} files in the bucket, and "
                f"RunPod takes {limit} on this route; let the workflow save fewer files",
                answer_bytes=size, limit_bytes=limit,
            )  # fmt: skip
        return answer

    async def _upload(self, job: Job, files: Sequence[Output]) -> list[Stored]:
        """All files, in their order; the first that fails ends the others."""
        assert self._bucket is not None
        keys = _distinct(
            self._bucket.key(
                job_id=job.job_id, request_id=job.request_id, name=file.path, ext=file.extension
            )
            for file in files
        )
        uploads = [_put(self._bucket, file, key) for file, key in zip(files, keys, strict=True)]
        return await run_at_once(uploads, _AT_ONCE)


async def _put(bucket: Bucket, file: Output, key: str) -> Stored:
    url = await bucket.put(file.body, key=key, content_type=file.content_type)
    return Stored(file, Place.BUCKET, url)


def _inline(file: Output) -> Stored:
    content = file.data if isinstance(file, OutputImage) else file.source.read_bytes()
    return Stored(file, Place.INLINE, base64.b64encode(content).decode("ascii"))


def _largest(files: Sequence[Output]) -> str:
    largest = sorted(files, key=lambda file: file.size_bytes, reverse=True)[:_SHOWN_FILES]
    shown = ", ".join(f"{file.filename} ({file.size_bytes} bytes)" for file in largest)
    return f"the largest are {shown}"


def _inline_answer_bytes(files: Sequence[Output], build: BuildAnswer) -> tuple[int, int]:
    """With the first picture twice, and once. Exact, and without reading a file: what is too large
    is never held in memory."""
    without_data = build([Stored(file, Place.INLINE, "") for file in files])
    sizes = [-(-file.size_bytes // 3) * 4 for file in files]
    first_picture = next(
        (size for file, size in zip(files, sizes, strict=True) if isinstance(file, OutputImage)), 0
    )
    size = encoded_bytes(without_data) + sum(sizes)
    return size + first_picture, size + (encoded_bytes({"left_out": _LEFT_OUT}))


def _distinct(keys: Iterable[str]) -> list[str]:
    """A template without `{ext}` can give two files of a job one key: number the later ones."""
    distinct: list[str] = []
    for key in keys:
        path = PurePosixPath(key)
        numbered = (str(path.with_stem(f"{path.stem}-{number}")) for number in count(2))
        distinct.append(next(name for name in chain([key], numbered) if name not in distinct))
    return distinct
