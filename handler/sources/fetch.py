"""A job's pictures from their addresses, checked as those that come as base64."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence

from handler.bucket import Bucket
from handler.contract import BucketKey, HttpsUrl, RemoteImage
from handler.errors import ImageUnreachable, InvalidImage
from handler.machine import run_at_once
from handler.pictures import ImageLimits, InputImage, check_image
from handler.sources.https import HttpsSource

_AT_ONCE = 4


class ImageFetcher:
    """`bucket` is None on a worker that has none; `timeout_s` is for each picture."""

    def __init__(
        self, bucket: Bucket | None, https: HttpsSource, limits: ImageLimits, *, timeout_s: float
    ) -> None:
        self._bucket = bucket
        self._https = https
        self._limits = limits
        self._timeout_s = timeout_s

    async def fetch(self, images: Sequence[InputImage | RemoteImage]) -> tuple[InputImage, ...]:
        """The pictures in their order; the first fault ends the other fetches.

        Raises InvalidImage, ImageUnreachable.
        """
        remote = [image for image in images if isinstance(image, RemoteImage)]
        read = await run_at_once([self._read(image) for image in remote], _AT_ONCE)
        data = dict(zip(remote, read, strict=True))
        # One after the other: each may take hundreds of megabytes while it is decoded.
        return tuple(
            [
                await asyncio.to_thread(
                    check_image, image.name, data[image], image.where, self._limits
                )
                if isinstance(image, RemoteImage)
                else image
                for image in images
            ]
        )

    async def _read(self, image: RemoteImage) -> bytes:
        with _told_of(image):
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await self._read_address(image.address)
            except TimeoutError as exc:
                raise ImageUnreachable(
                    f"{image.address} took longer than {self._timeout_s:g} s",
                    timeout_s=self._timeout_s,
                ) from exc

    async def _read_address(self, address: HttpsUrl | BucketKey) -> bytes:
        if isinstance(address, HttpsUrl):
            return await self._https.get(address, limit_bytes=self._limits.data_bytes)
        if self._bucket is None:
            raise InvalidImage(
                f"{address} can't be read: this worker has no bucket; send the picture itself, or "
                "set the BUCKET_ variables"
            )
        return await self._bucket.get(address.key, limit_bytes=self._limits.data_bytes)


@contextlib.contextmanager
def _told_of(image: RemoteImage) -> Iterator[None]:
    """Sources know addresses; a caller needs to know which entry it was."""
    try:
        yield
    except (InvalidImage, ImageUnreachable) as error:
        error.message = f"{image.where} ({image.name!r}): {error.message}"
        error.details |= {"where": image.where, "name": image.name}
        raise
