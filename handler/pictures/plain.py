"""Pictures as a person sees them, in RGB or RGBA of 8 bits, where ComfyUI's LoadImage would make
something else of the file. Pure."""

import contextlib
import io

from PIL import Image, ImageCms, ImageOps

from handler.pictures.pillow import DECODER_ERRORS

# Of these LoadImage makes what a person sees.
_UNDERSTOOD = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def is_understood(picture: Image.Image, *, as_photo: bool) -> bool:
    """Whether LoadImage makes of the file what `plain` makes of it."""
    if picture.mode not in _UNDERSTOOD:
        return False
    # PNG's other form of transparency: LoadImage does not see it.
    if picture.mode != "P" and "transparency" in picture.info:
        return False
    return not (as_photo and picture.has_transparency_data)


def plain(picture: Image.Image, *, as_photo: bool) -> Image.Image:
    """A decoded picture upright, 16-bit grey scaled to 8, and CMYK, whose colours no format that is
    delivered holds, in sRGB. `as_photo` also puts it on white. RGB keeps its numbers: they come
    back under the profile that they are meant for."""
    # Of what is wrong with EXIF data, the turn is the only part that counts.
    with contextlib.suppress(*DECODER_ERRORS):
        ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode.startswith("I"):
        picture = eight_bits(picture)
    if picture.mode == "CMYK":
        picture = _in_srgb(picture)
    mode = "RGBA" if picture.has_transparency_data else "RGB"
    picture = picture if picture.mode == mode else picture.convert(mode)
    return on_white(picture) if as_photo else picture


def eight_bits(grey: Image.Image) -> Image.Image:
    """Of 16-bit values, such as a depth map's: Pillow would cut them off at 255. 16-bit colours it
    scales itself."""
    scaled = grey.convert("I").point(lambda value: value * (1 / 257) + 0.5)
    return scaled.convert("L")


def on_white(picture: Image.Image) -> Image.Image:
    if picture.mode == "RGB":
        return picture
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")


def _in_srgb(cmyk: Image.Image) -> Image.Image:
    """By its own profile, where it has one that can be read."""
    with contextlib.suppress(ImageCms.PyCMSError, *DECODER_ERRORS):
        profile = ImageCms.ImageCmsProfile(io.BytesIO(cmyk.info["icc_profile"]))
        converted = ImageCms.profileToProfile(cmyk, profile, _SRGB, outputMode="RGB")
        if converted is not None:
            return converted
    return cmyk.convert("RGB")
