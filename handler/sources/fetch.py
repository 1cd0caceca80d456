"""A job's pictures: as they were sent or from their addresses, decoded and checked."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence

from handler.bucket import Bucket
from handler.contract import BucketKey, HttpsUrl, RemoteImage
from handler.errors import ImageUnreachable, InvalidImage
from handler.machine import run_at_once
from handler.pictures import ImageLimits, InputImage, SentImage, decode_base64
from handler.sources.checker import PictureChecker
from handler.sources.https import HttpsSource

_AT_ONCE = 4


class ImageFetcher:
    """`bucket` is None on a worker that has none; `timeout_s` is for each picture at an address."""

    def __init__(
        self,
        bucket: Bucket | None,
        https: HttpsSource,
        checker: PictureChecker,
        limits: ImageLimits,
        *,
        timeout_s: float,
        total_bytes: int,
    ) -> None:
        self._bucket = bucket
        self._https = https
        self._checker = checker
        self._limits = limits
        self._timeout_s = timeout_s
        self._total_bytes = total_bytes

    async def check(self, images: Sequence[SentImage], *, as_photo: bool) -> list[InputImage]:
        """Those that were sent, one after the other: each may take hundreds of megabytes while it
        is decoded. Raises InvalidImage."""
        return [
            await self._check(
                image, await asyncio.to_thread(decode_base64, image, self._limits), as_photo
            )
            for image in images
        ]

    async def fetch(self, images: Sequence[RemoteImage], *, as_photo: bool) -> list[InputImage]:
        """Those at an address; the first fault ends the other fetches. Raises InvalidImage,
        ImageUnreachable."""
        room = self._total_bytes

        async def read_within(image: RemoteImage) -> bytes:
            nonlocal room
            data = await self._read(image)
            room -= len(data)
            if room < 0:
                raise InvalidImage(
                    f"{image.where} ({image.name!r}): the pictures at addresses have over "
                    f"{self._total_bytes} bytes together",
                    where=image.where,
                    name=image.name,
                    limit_bytes=self._total_bytes,
                )
            return data

        read = await run_at_once([read_within(image) for image in images], _AT_ONCE)
        return [
            await self._check(image, data, as_photo)
            for image, data in zip(images, read, strict=True)
        ]

    async def _check(
        self, image: SentImage | RemoteImage, data: bytes, as_photo: bool
    ) -> InputImage:
        return await self._checker.check(image.name, data, image.where, as_photo=as_photo)

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
