"""What Pillow does not say of itself: what it raises, and which of its guards is off here."""

import struct
import zlib

from PIL import Image

# Of what callers send, the limit on pixels is checked before any is decoded, and what the
# workflow's nodes save is as large as they like; Pillow's own guard would warn at 89 megapixels and
# raise at 179, whatever the operator has set.
Image.MAX_IMAGE_PIXELS = None

# Of broken files: Pillow has no base class for it. RuntimeError is AVIF's, and of modes that a
# decoder lacks.
DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
)
