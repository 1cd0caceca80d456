"""Pictures in the format that the caller asks for. Pure."""

import hashlib
import io
from dataclasses import dataclass, replace

from PIL import Image

from handler.input_types import ImageFormat
from handler.job_folder import OutputImage


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
    """The picture in that format, its file name too; as it is when it is a PNG and is to be one.

    Takes up to a second, so this does not belong on an event loop. Metadata, such as the workflow
    that ComfyUI writes into a PNG, does not survive. JPEG has no transparency: white shows through.
    """
    content_type = _CONTENT_TYPES[encoding.format]
    if image.content_type == content_type == "image/png":
        return image
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(image.data)) as saved:
        picture = saved.convert("RGBA" if saved.has_transparency_data else "RGB")
        if encoding.format is ImageFormat.JPEG:
            picture = _opaque(picture)
        picture.save(buffer, encoding.format.upper(), quality=encoding.quality)
    data = buffer.getvalue()
    return replace(
        image,
        filename=f"{image.filename.rpartition('.')[0] or image.filename}"
        f".{_EXTENSIONS[encoding.format]}",
        data=data,
        content_type=content_type,
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _opaque(picture: Image.Image) -> Image.Image:
    if picture.mode == "RGB":
        return picture
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")
