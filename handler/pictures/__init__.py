"""The bytes of pictures: checked, and in the form in which ComfyUI exchanges them."""

from handler.pictures.images import (
    ImageLimits,
    InputImage,
    SentImage,
    check_image,
    decode_base64,
    decode_image,
)
from handler.pictures.pillow import DECODER_ERRORS
from handler.pictures.plain import eight_bits, on_white
from handler.pictures.stored_png import compress

__all__ = [
    "DECODER_ERRORS",
    "ImageLimits",
    "InputImage",
    "SentImage",
    "check_image",
    "compress",
    "decode_base64",
    "decode_image",
    "eight_bits",
    "on_white",
]
