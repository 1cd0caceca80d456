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
    return not as_photo or not (picture.has_transparency_data or _foreign_profile(picture))


def plain(picture: Image.Image, *, as_photo: bool) -> Image.Image:
    """A decoded picture upright, 16-bit grey scaled to 8, and CMYK by its own profile. `as_photo`
    also brings it to sRGB and puts it on white."""
    # Of what is wrong with EXIF data, the turn is the only part that counts.
    with contextlib.suppress(*DECODER_ERRORS):
        ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode.startswith("I"):
        picture = eight_bits(picture)
    if as_photo or picture.mode == "CMYK":
        picture = in_srgb(picture)
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


def in_srgb(picture: Image.Image) -> Image.Image:
    """As it is where it names no other colours, or names them wrongly."""
    profile = _foreign_profile(picture)
    if profile is None:
        return picture
    alpha = None
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        alpha = picture.getchannel("A")
    colors = picture if picture.mode in {"L", "CMYK"} else picture.convert("RGB")
    try:
        converted = ImageCms.profileToProfile(colors, profile, _SRGB, outputMode="RGB")
    except (ImageCms.PyCMSError, *DECODER_ERRORS):
        return picture
    assert converted is not None
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def _foreign_profile(picture: Image.Image) -> ImageCms.ImageCmsProfile | None:
    """The colour profile that a file carries, unless it is sRGB's or can't be read."""
    data = picture.info.get("icc_profile")
    if not data:
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        is_srgb = "srgb" in ImageCms.getProfileDescription(profile).lower()
    except (ImageCms.PyCMSError, *DECODER_ERRORS):
        return None
    return None if is_srgb else profile
