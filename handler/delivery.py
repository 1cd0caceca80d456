"""Where pictures go: into the answer, or into the bucket when asked or when they are too large."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import PurePosixPath
from typing import Any

from handler.answer import StoredImage, encoded_bytes
from handler.bucket import Bucket
from handler.errors import InvalidInput, OutputTooLarge
from handler.input_types import Delivery
from handler.job import Job
from handler.job_folder import OutputImage

BuildAnswer = Callable[[Sequence[StoredImage]], dict[str, Any]]


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
        self, job: Job, images: Sequence[OutputImage], build: BuildAnswer
    ) -> dict[str, Any]:
        """The whole answer. Raises UploadFailed or OutputTooLarge."""
        wants_inline = self._bucket is None or job.delivery is Delivery.BASE64
        if wants_inline:
            answer = await asyncio.to_thread(build, [StoredImage(item, None) for item in images])
            size, limit = await asyncio.to_thread(encoded_bytes, answer), self._limits.of(job)
            if size <= limit:
                return answer
            if self._bucket is None:
                raise OutputTooLarge(
                    f"the answer has {size} bytes and RunPod takes {limit} on this route; set the "
                    "BUCKET_ variables so that large pictures become addresses",
                    answer_bytes=size, limit_bytes=limit,
                )  # fmt: skip
        return build(await self._upload(job, images))

    async def _upload(self, job: Job, images: Sequence[OutputImage]) -> list[StoredImage]:
        assert self._bucket is not None
        keys = _distinct(
            self._bucket.key(
                job_id=job.job_id, request_id=job.request_id, name=item.path, ext=item.extension
            )
            for item in images
        )
        urls = await asyncio.gather(
            *(
                self._bucket.put(item.data, key=key, content_type=item.content_type)
                for item, key in zip(images, keys, strict=True)
            )
        )
        return [StoredImage(item, url) for item, url in zip(images, urls, strict=True)]


def _distinct(keys: Iterable[str]) -> list[str]:
    """A template without `{ext}` can give two pictures of a job one key: number the later ones."""
    distinct: list[str] = []
    for key in keys:
        path = PurePosixPath(key)
        numbered = (str(path.with_stem(f"{path.stem}-{number}")) for number in count(2))
        distinct.append(next(name for name in chain([key], numbered) if name not in distinct))
    return distinct
