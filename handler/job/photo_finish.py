"""Makes of the picture that a model drew the caller's own photo again: its size, its colour
profile, and with a mask all of its pixels outside it."""

import hashlib
from dataclasses import dataclass, replace

from PIL import Image

from handler.errors import InternalError
from handler.job.outputs import OutputImage
from handler.pictures import Box, Mask, Photo, changed_outside, paste, read_photo


@dataclass(frozen=True, slots=True)
class Patching:
    """The model draws what lies in `box` of `photo`, which it may change where `mask` is true."""

    photo: Photo
    mask: Mask
    box: Box


@dataclass(frozen=True, slots=True)
class PhotoFinish:
    """`size` (width, height) None leaves the model's own."""

    size: tuple[int, int] | None = None
    profile: bytes | None = None
    patching: Patching | None = None

    def apply(self, image: OutputImage, *, is_final: bool) -> OutputImage:
        """As a PNG, which is compressed when it is final. Takes some seconds for a large photo, so
        this does not belong on an event loop. Raises InternalError rather than to give away a
        picture that is not the caller's outside the mask.
        """
        drawn = read_photo(image.data)
        photo, data, changed = (
            self._patched(drawn, self.patching, is_final=is_final)
            if self.patching
            else self._scaled(drawn, is_final=is_final)
        )
        width, height = photo.size
        return replace(
            image, data=data, width=width, height=height, content_type="image/png",
            sha256=hashlib.sha256(data).hexdigest(), changed_outside=changed,
        )  # fmt: skip

    def _scaled(self, drawn: Photo, *, is_final: bool) -> tuple[Photo, bytes, None]:
        picture = drawn.as_rgb()
        if self.size and self.size != picture.size:
            picture = picture.resize(self.size, Image.Resampling.LANCZOS)
        photo = Photo.of(picture, self.profile)
        return photo, _png(photo, is_final=is_final), None

    def _patched(self, drawn: Photo, on: Patching, *, is_final: bool) -> tuple[Photo, bytes, int]:
        photo = paste(on.photo, drawn, on.mask, on.box).photo
        data = _png(photo, is_final=is_final)
        # Of the very bytes that are delivered.
        if changed := changed_outside(on.photo, read_photo(data), on.mask):
            raise InternalError(
                f"{changed} pixels outside the mask are not the photo's; nothing is delivered",
                pixels_changed_outside=changed,
            )
        return photo, data, changed


def _png(photo: Photo, *, is_final: bool) -> bytes:
    return photo.as_png() if is_final else photo.as_png(compress_level=0)
