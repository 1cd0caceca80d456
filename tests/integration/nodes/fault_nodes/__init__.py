"""Nodes that behave badly on request, for the integration tests only."""

import time

import comfy.model_management
import torch


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


class FailingImage:
    """Raises."""

    CATEGORY = "tests"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "kind": (["error", "out_of_memory"],)}}

    def run(self, image, kind):
        if kind == "out_of_memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        raise RuntimeError("broken on purpose, in /opt/comfy/somewhere/secret.py")


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


NODE_CLASS_MAPPINGS = {
    "SlowImage": SlowImage,
    "FailingImage": FailingImage,
    "ShowsApiKey": ShowsApiKey,
}
