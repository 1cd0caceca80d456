"""Pictures in the format that the caller asks for."""

import hashlib
import io
from dataclasses import dataclass, replace

from PIL import Image, ImageSequence

from handler.contract import ImageFormat
from handler.job.outputs import OutputImage
from handler.logs import get_logger
from handler.pictures import DECODER_ERRORS, eight_bits, on_white

log = get_logger()


@dataclass(frozen=True, slots=True)
class Encoding:
    """`quality` is 1 to 100, for the lossy formats."""

    format: ImageFormat
    quality: int


_CONTENT_TYPES = {
    ImageFormat.PNG: "image/png",
    ImageFormat.WEBP: "image/webp",
    ImageFormat.JPEG: "image/jpeg",
}
_EXTENSIONS = {ImageFormat.PNG: "png", ImageFormat.WEBP: "webp", ImageFormat.JPEG: "jpg"}


def reencode(image: OutputImage, encoding: Encoding) -> OutputImage:
    """The picture in that format, its file name too; as it is when it is a PNG and is to be one,
    when it moves and the format is not WebP, the one of the three in which all readers see that,
    and when the format can't hold it: the GPU's work is done, and a caller sees `content_type`.

    Takes up to a second a frame, so this does not belong on an event loop. Metadata, such as the
    workflow that ComfyUI writes into a PNG, does not survive, but for the colour profile. JPEG has
    no transparency: white shows through.
    """
    content_type = _CONTENT_TYPES[encoding.format]
    moves = image.frames > 1
    if image.content_type == content_type == "image/png" or (
        moves and encoding.format is not ImageFormat.WEBP
    ):
        return image
    try:
        data = _encoded(image.data, encoding, moves=moves)
    except DECODER_ERRORS as exc:
        # WebP has at most 16383 pixels a side, JPEG 65500.
        log.warning(
            "picture stays as it was saved", filename=image.filename, format=encoding.format,
            width=image.width, height=image.height, cause=str(exc),
        )  # fmt: skip
        return image
    return replace(
        image,
        filename=f"{image.filename.rpartition('.')[0] or image.filename}"
        f".{_EXTENSIONS[encoding.format]}",
        data=data,
        content_type=content_type,
        sha256=hashlib.sha256(data).hexdigest(),
        # Both formats change every pixel a little.
        changed_outside=None,
    )


def _encoded(data: bytes, encoding: Encoding, *, moves: bool) -> bytes:
    """Raises one of DECODER_ERRORS for what the format can't hold."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data)) as saved:
        if saved.mode == "F" or (moves and saved.mode.startswith("I")):
            raise ValueError("its values have more than 8 bits")
        if moves:
            _save_moving(saved, buffer, encoding.quality)
        else:
            _still(saved, encoding.format).save(
                buffer, encoding.format.upper(), quality=encoding.quality,
                icc_profile=_profile(saved),
            )  # fmt: skip
    return buffer.getvalue()


def _profile(saved: Image.Image) -> bytes | None:
    """Its colour profile, unless it is of colours that the picture no longer has as RGB."""
    return saved.info.get("icc_profile") if saved.mode in {"RGB", "RGBA", "P"} else None


def _still(saved: Image.Image, image_format: ImageFormat) -> Image.Image:
    if saved.mode.startswith("I"):
        saved = eight_bits(saved)
    picture = saved.convert("RGBA" if saved.has_transparency_data else "RGB")
    return on_white(picture) if image_format is ImageFormat.JPEG else picture


def _save_moving(saved: Image.Image, buffer: io.BytesIO, quality: int) -> None:
    """As WebP. Pillow takes each frame's time only from a list."""
    durations_ms = []
    for frame in ImageSequence.Iterator(saved):
        # WebP's time is known once the frame is decoded.
        frame.load()
        durations_ms.append(frame.info.get("duration", 0))
    # A GIF that does not say how often plays once; 0 is for ever.
    loop = saved.info.get("loop", 1 if saved.format == "GIF" else 0)
    saved.save(
        buffer, "WEBP", save_all=True, quality=quality, duration=durations_ms, loop=loop,
        background=(0, 0, 0, 0),
    )  # fmt: skip
