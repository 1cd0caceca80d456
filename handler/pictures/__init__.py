"""The pixels of pictures: checked, cut and pasted, and in the form in which ComfyUI exchanges them.
Pure."""

from handler.pictures.images import ImageLimits, InputImage, check_image, decode_image
from handler.pictures.mask import Cut, Pasted, changed_outside, cut, mask_png, paste, read_mask
from handler.pictures.photo import Photo, read_photo
from handler.pictures.pillow import DECODER_ERRORS
from handler.pictures.stored_png import compress

__all__ = [
    "DECODER_ERRORS",
    "Cut",
    "ImageLimits",
    "InputImage",
    "Pasted",
    "Photo",
    "changed_outside",
    "check_image",
    "compress",
    "cut",
    "decode_image",
    "mask_png",
    "paste",
    "read_mask",
    "read_photo",
]
