"""The bytes of pictures: checked, and in the form in which ComfyUI exchanges them."""

from handler.pictures.images import ImageLimits, InputImage, check_image, decode_image
from handler.pictures.pillow import DECODER_ERRORS
from handler.pictures.stored_png import compress

__all__ = ["DECODER_ERRORS", "ImageLimits", "InputImage", "check_image", "compress", "decode_image"]
