"""Nodes that behave badly on request, for the integration tests only."""

import asyncio
import ctypes
import time
import weakref
from collections import Counter
from pathlib import Path

import comfy.model_management
import torch
from nodes import SaveImage
from server import PromptServer

from .http_faults import install

_RUNS = Counter()


class SlowImage:
    """Passes an image on after `seconds`, and stops early when interrupted if it `obeys`."""

    CATEGORY = "tests"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": ("IMAGE",),
                "seconds": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 600.0}),
                "obeys": ("BOOLEAN", {"default": True}),
            }
        }

    def run(self, image, seconds, obeys):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if obeys:
                comfy.model_management.throw_exception_if_processing_interrupted()
            time.sleep(0.02)
        return (image,)


def _illegal_memory_access():
    raise torch.AcceleratorError(
        "CUDA error: an illegal memory access was encountered\n"
        "CUDA kernel errors might be asynchronously reported at some other API call."
    )


def _out_of_memory():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


def _error():
    raise RuntimeError("broken on purpose, in /opt/comfy/somewhere/secret.py")


def _disk_full():
    with Path("/dev/full").open("wb") as full:
        full.write(b"x")


_FAULTS = {
    "error": _error,
    "out_of_memory": _out_of_memory,
    "illegal_memory_access": _illegal_memory_access,
    "disk_full": _disk_full,
}


class FailingImage:
    """Raises, the first `times` times that one process runs it under a `name`."""

    CATEGORY = "tests"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"image": ("IMAGE",), "kind": (list(_FAULTS),)},
            "optional": {"times": ("INT", {"default": 1000}), "name": ("STRING", {"default": ""})},
        }

    def run(self, image, kind, times=1000, name=""):
        _RUNS[name] += 1
        if _RUNS[name] <= times:
            _FAULTS[kind]()
        return (image,)


class HungryImage:
    """Runs out of memory until the image that it was given first is gone from memory."""

    CATEGORY = "tests"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    first = None

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",)}}

    def run(self, image):
        if HungryImage.first is None:
            HungryImage.first = weakref.ref(image)
        if HungryImage.first() is not None:
            _out_of_memory()
        return (image,)


class HoldInterpreter:
    """Passes an image on after `seconds` in which no other thread of the process runs Python."""

    CATEGORY = "tests"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "seconds": ("INT", {"default": 1})}}

    def run(self, image, seconds):
        # Of ctypes' loaders, this one keeps the interpreter's lock during a call.
        ctypes.PyDLL(None).sleep(seconds)
        return (image,)


class LoseSocket:
    """Passes an image on, after which the prompt's websocket is closed, or open and silent."""

    CATEGORY = "tests"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "kind": (["closed", "silent"],)}}

    def run(self, image, kind):
        server = PromptServer.instance
        socket = server.sockets.pop(server.client_id)
        if kind == "closed":
            asyncio.run_coroutine_threadsafe(socket.close(), server.loop).result()
        return (image,)


class ShowsApiKey:
    """An image as wide as the key of Comfy.org is long; 1 without a key."""

    CATEGORY = "tests"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}, "hidden": {"key": "API_KEY_COMFY_ORG"}}

    def run(self, key=None):
        return (torch.zeros(1, 8, len(key or " "), 3),)


class SlowSaveImage(SaveImage):
    """Saves, and then takes 300 seconds more."""

    def save_images(self, *arguments, **inputs):
        saved = super().save_images(*arguments, **inputs)
        time.sleep(300)
        return saved


NODE_CLASS_MAPPINGS = {
    kind.__name__: kind
    for kind in (
        SlowImage,
        FailingImage,
        HungryImage,
        HoldInterpreter,
        LoseSocket,
        SlowSaveImage,
        ShowsApiKey,
    )
}
install(PromptServer.instance)
