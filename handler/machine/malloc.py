"""What the C library does with the memory of large jobs."""

import contextlib
import ctypes

# From malloc.h.
_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 256 * 1024


def return_large_buffers() -> None:
    """Have glibc give a large buffer back to the system when it is freed.

    By itself it does so only until the first one is: that raises the threshold, up to 32 MB
    (mallopt(3)), after which pictures and bodies come from the heap and leave holes in it. A
    setting of its own ends the raising. Elsewhere than on glibc nothing is done.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
