"""Takes PNG's compression off ComfyUI's executing thread, where it costs about a hundred
milliseconds a picture while the GPU waits: LoadImage reads, SaveImage and PreviewImage write PNGs
that are not compressed. The worker compresses what it returns, in another process.

Upstream's methods are replaced only where their source is the one that was compared with ours. With
COMFY_STOCK set the worker does not load this.
"""

import hashlib
import inspect
import logging
from collections.abc import Callable
from typing import Any

import nodes

from .nodes_images import make_load_image, make_save_images

NODE_CLASS_MAPPINGS: dict[str, type] = {}

# SHA-256 of upstream's source, and what makes the replacement from upstream's method.
_REPLACED: dict[tuple[str, str], tuple[str, Callable[..., Any]]] = {
    ("LoadImage", "load_image"): (
        "c01f48de7719a03d0f093e6081f5afe959fc8ff514b5c2a3183010c607fb591f",
        make_load_image,
    ),
    ("SaveImage", "save_images"): (
        "c5ade48c2956835f7481f81b46f66961c9ee55d149ffeee32028e4576aa9ab83",
        make_save_images,
    ),
}


def install() -> list[str]:
    """The names of the methods that were left as they are."""
    left = []
    for (class_name, method), (digest, make) in _REPLACED.items():
        owner = getattr(nodes, class_name, None)
        stock = vars(owner).get(method) if owner else None
        if stock is None or _digest(stock) != digest:
            left.append(f"{class_name}.{method}")
        else:
            setattr(owner, method, make(stock))
    if left:
        logging.warning(
            "stored_pictures: %s not as known, left as upstream has it", " and ".join(left)
        )
    return left


def _digest(function: Callable[..., Any]) -> str:
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        return "no source"
    return hashlib.sha256(source.encode()).hexdigest()


install()
