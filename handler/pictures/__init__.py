"""The pixels of pictures: checked, cut, pasted, and in the form that ComfyUI exchanges."""

from handler.pictures.canvas import extend
from handler.pictures.feather import Box, Mask, noise_mask
from handler.pictures.images import (
    ImageLimits,
    InputImage,
    SentImage,
    check_image,
    decode_base64,
    decode_image,
)
from handler.pictures.mask import changed_outside, cut, mask_png, paste, read_mask
from handler.pictures.photo import Photo, color_profile, read_photo
from handler.pictures.pillow import DECODER_ERRORS
from handler.pictures.plain import eight_bits, on_white
from handler.pictures.prescale import prescale
from handler.pictures.stored_png import compress

__all__ = [
    "DECODER_ERRORS",
    "Box",
    "ImageLimits",
    "InputImage",
    "Mask",
    "Photo",
    "SentImage",
    "changed_outside",
    "check_image",
    "color_profile",
    "compress",
    "cut",
    "decode_base64",
    "decode_image",
    "eight_bits",
    "extend",
    "mask_png",
    "noise_mask",
    "on_white",
    "paste",
    "prescale",
    "read_mask",
    "read_photo",
]
