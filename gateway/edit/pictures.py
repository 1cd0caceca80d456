"""The pictures of a request: each one found, checked whole, and at its place in the store.

A picture at an https address stays there: the worker fetches it. All others are copied to the job,
so that nothing that happens to an upload or a result changes a job that waits.
"""

import base64
import hashlib
import io
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

from PIL import ExifTags, Image, ImageOps

from gateway.errors import InvalidImage, NotFound
from gateway.objects import ObjectMissing, ObjectStore
from handler.contract import AddressFault, BucketKey, parse_address
from handler.errors import InvalidImage as WorkerInvalidImage
from handler.pictures import DECODER_ERRORS, ImageLimits, check_image, decode_image

LIMITS = ImageLimits(count=16, data_bytes=20_000_000, pixels=64_000_000)
CONTENT_TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}
_BIG_BYTES = 2_000_000
_LONGEST_TYPE = 100
# Decoded, a big one takes up to 256 MB.
_big_ones = threading.BoundedSemaphore(2)

KeyOf = Callable[[str], str]
"""The key in the store of what `bucket:` or `upload:` names. Raises NotFound for another's."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A whole, decodable picture, or the address of one (then without data)."""

    name: str
    data: bytes
    extension: str
    width: int | None
    height: int | None
    address: str | None = None

    @property
    def identity(self) -> str:
        """Equal for equal pictures."""
        return self.address or hashlib.sha256(self.data).hexdigest()


class Finder:
    """Turns an entry of a request into a checked picture. Raises InvalidImage."""

    def __init__(self, objects: ObjectStore, key_of: Mapping[str, KeyOf]) -> None:
        self._objects = objects
        self._key_of = key_of

    def find(self, name: str, text: str, where: str) -> Picture:
        """`where` names the entry for messages."""
        scheme, colon, _ = text[:20].partition(":")
        if colon and scheme.lower() == "upload":
            return self._of_key("upload", name, text.partition(":")[2], where)
        try:
            address = parse_address(text)
        except AddressFault as exc:
            raise InvalidImage(f"{where}: the address {exc}", where=where) from exc
        if isinstance(address, BucketKey):
            return self._of_key("bucket", name, address.key, where)
        if address is not None:
            return Picture(name, b"", "", None, None, text)
        with _at_most_two(len(text)), _as_ours():
            data = _base64_of(text)
            found = _quick_jpeg(name, data) if data is not None else None
            return found or _of_worker(decode_image(name, text, where, LIMITS))

    def _of_key(self, kind: str, name: str, value: str, where: str) -> Picture:
        try:
            key = self._key_of[kind](value)
            if self._objects.size(key) > LIMITS.data_bytes:
                raise InvalidImage(f"{where}: is over {LIMITS.data_bytes} bytes", where=where)
            with self._objects.open(key) as file:
                return check_file(name, file, where)
        except (NotFound, ObjectMissing) as exc:
            raise InvalidImage(f"{where}: there is no {kind}:{value[:200]}", where=where) from exc


def check_file(name: str, file: BinaryIO, where: str) -> Picture:
    """Reads no more than a picture may have. Raises InvalidImage."""
    data = file.read(LIMITS.data_bytes + 1)
    with _at_most_two(len(data)), _as_ours():
        return _quick_jpeg(name, data) or _of_worker(check_image(name, data, where, LIMITS))


def turned_upright(picture: Picture) -> Picture:
    """As it is shown, without the note that it is to be turned. Raises InvalidImage."""
    try:
        with Image.open(io.BytesIO(picture.data)) as opened:
            if opened.getexif().get(ExifTags.Base.Orientation, 1) == 1:
                return picture
            upright = ImageOps.exif_transpose(opened)
            # A phone's JPEG may hold a preview beside the photo, which Pillow calls MPO.
            kind = "JPEG" if opened.format == "MPO" else opened.format
            keep: dict[str, Any] = {"icc_profile": opened.info.get("icc_profile")}
            if kind in {"JPEG", "WEBP"}:
                keep["quality"] = 95
            buffer = io.BytesIO()
            upright.save(buffer, kind, **keep)
    except DECODER_ERRORS as exc:
        raise InvalidImage(f"the picture can't be turned upright: {exc}") from exc
    return Picture(
        picture.name, buffer.getvalue(), picture.extension, upright.width, upright.height
    )


def _base64_of(text: str) -> bytes | None:
    """Of plain base64 or its data URI; None for what the worker's own parser is to judge."""
    if len(text) // 4 * 3 > LIMITS.data_bytes:
        return None
    if text.startswith("data:"):
        head, comma, text = text.partition(";base64,")
        if not comma or len(head) > _LONGEST_TYPE:
            return None
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return None


def _quick_jpeg(name: str, data: bytes) -> Picture | None:
    """Decoded at an eighth of its size, which reads every byte all the same and takes a fourth of
    the time. None for what it can't judge."""
    if not data.startswith(b"\xff\xd8\xff") or len(data) > LIMITS.data_bytes:
        return None
    with suppress(*DECODER_ERRORS), Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
        width, height = picture.size
        if width * height > LIMITS.pixels:
            return None
        orientation = picture.getexif().get(ExifTags.Base.Orientation)
        picture.draft(None, (max(1, width // 8), max(1, height // 8)))
        picture.load()
        if orientation in {5, 6, 7, 8}:
            width, height = height, width
        return Picture(name, data, "jpg", width, height)
    return None


def _of_worker(image: Any) -> Picture:
    return Picture(image.name, image.data, image.extension, image.width, image.height)


def _at_most_two(size: int) -> Any:
    return _big_ones if size > _BIG_BYTES else nullcontext()


@contextmanager
def _as_ours() -> Iterator[None]:
    """The worker's errors of pictures as the gateway's."""
    try:
        yield
    except WorkerInvalidImage as exc:
        raise InvalidImage(exc.message, **exc.details) from exc
