"""What ComfyUI imports at its start and Qwen Image Edit does not need, or not at once.

What each costs is in docs/benchmarks.md. tests/contract/comfy_boot/test_bootstrap.py holds every
name here to the real modules, and ComfyUI's nodes to those of an unchanged start.
"""

import importlib.util
import types

from worker_boot.lazy_modules import Lazy

# Needed by the first edit. Loaded in the background as soon as the server listens.
SOON = ("transformers",)


class _Database:
    """ComfyUI sets up its database at the start; at our pin nothing looks into it."""

    def __init__(self) -> None:
        self._is_wanted = False

    def are_dependencies_available(self) -> bool:
        return all(map(importlib.util.find_spec, ("alembic", "sqlalchemy")))

    def want(self) -> None:
        self._is_wanted = True

    def set_up(self, module: types.ModuleType) -> None:
        if self._is_wanted:
            module.init_db()


def lazy_modules() -> list[Lazy]:
    database = _Database()
    return [
        Lazy(
            "app.database.db",
            early={
                "dependencies_available": database.are_dependencies_available,
                "init_db": database.want,
            },
            on_load=database.set_up,
        ),
        # The models of Cascade, Cosmos and ACE. It pulls in torch._dynamo.
        Lazy("torchvision"),
        Lazy("torchvision.transforms"),
        # It reads thousands of files of its own to learn what it has.
        Lazy(
            "transformers",
            stand_ins=(
                "BertTokenizer",
                "ByT5Tokenizer",
                "CLIPTokenizer",
                "LlamaTokenizerFast",
                "Qwen2Tokenizer",
                "T5TokenizerFast",
            ),
        ),
        # The scheduler `beta`, the sampler `lms`, growing a mask.
        Lazy("scipy.stats"),
        Lazy("scipy.integrate"),
        Lazy("scipy.ndimage"),
        # The nodes Canny, Morphology and ImageRGBToYUV.
        Lazy("kornia"),
        Lazy("kornia.color"),
        Lazy("kornia.filters", stand_ins=("canny",)),
        Lazy(
            "kornia.morphology",
            stand_ins=(
                "bottom_hat", "closing", "dilation", "erosion", "gradient", "opening", "top_hat",
            ),
        ),
        # The nodes for upscale models. It needs torchvision.
        Lazy("spandrel", stand_ins=("ImageModelDescriptor", "MAIN_REGISTRY", "ModelLoader")),
    ]  # fmt: skip
