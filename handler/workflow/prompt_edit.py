"""Prompt mode: a text and one to three pictures, compiled to the Qwen Image Edit 2509 graph. Pure.

The graph is the official template's (examples/qwen_image_edit_2509.json) less the work that can't
change the picture. At cfg 1 ComfyUI's sampler does not look at the negative conditioning, so no
second text encoding is made for it; at denoise 1 it looks at nothing but the shape of the latent
image, so no photo is encoded for that. tests/integration/test_edit.py holds the pixels equal.
"""

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from handler.contract import CFG, LONGEST_PROMPT, LORA_STRENGTH, SEED, STEPS, Bounds, Ratio
from handler.errors import InvalidInput
from handler.models import ModelFile
from handler.pictures import InputImage

_MOST_IMAGES = 3
# Whole in every JSON reader, also those that know only floats.
_LARGEST_RANDOM_SEED = 2**53
# JSON can hold it, as an escape; nothing can write it as UTF-8.
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")

# Exact ratios near a megapixel, in multiples of 16 as the model's patches want.
_SIZES: dict[Ratio, tuple[int, int]] = {
    "1:1": (1024, 1024),
    "4:3": (1152, 864),
    "3:4": (864, 1152),
    "16:9": (1280, 720),
    "9:16": (720, 1280),
}
# FluxKontextImageScale's choice of sizes (comfy_extras/nodes_flux.py); each is there turned, too.
_OWN_SIZES = (
    (672, 1568), (688, 1504), (720, 1456), (752, 1392), (800, 1328), (832, 1248), (880, 1184),
    (944, 1104), (1024, 1024),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelNames:
    """The weights by the names that ComfyUI's loaders know them by."""

    unet: str
    clip: str
    vae: str
    lora: str

    @classmethod
    def of(cls, models: Iterable[ModelFile]) -> "ModelNames":
        """Those of a lock, told apart by their folders."""
        by_folder = {model.folder: model.file for model in models}
        return cls(by_folder["unet"], by_folder["clip"], by_folder["vae"], by_folder["loras"])


@dataclass(frozen=True, slots=True)
class PromptEdit:
    """What a caller asks for in prompt mode, and the models it runs on. `ratio` None is the first
    picture's own."""

    models: ModelNames
    prompt: str
    negative_prompt: str
    ratio: Ratio | None
    seed: int
    steps: int
    cfg: float
    lora_strength: float


PROMPT_KEYS = tuple(field.name for field in fields(PromptEdit) if field.name != "models")


def parse_prompt_edit(job_input: Mapping[str, Any], models: ModelNames) -> PromptEdit:
    """Fill in the defaults: 4 steps at cfg 1 with the Lightning LoRA, 20 at 2.5 without it, and a
    random seed. Raises InvalidInput."""
    lora_strength = _number(job_input, "lora_strength", 1.0, LORA_STRENGTH)
    with_lora = lora_strength != 0
    cfg = _number(job_input, "cfg", 1.0 if with_lora else 2.5, CFG)
    negative_prompt = _text(job_input, "negative_prompt", required=False)
    if negative_prompt and cfg == 1:
        raise InvalidInput(
            "input.negative_prompt has no effect at cfg 1, which is the default with the Lightning "
            "LoRA; set input.cfg above 1 or leave it out"
        )
    ratio = job_input.get("ratio")
    if ratio is not None and ratio not in list(_SIZES):
        raise InvalidInput(f"input.ratio must be one of {', '.join(_SIZES)}, not {ratio!r}")
    return PromptEdit(
        models=models,
        prompt=_text(job_input, "prompt", required=True),
        negative_prompt=negative_prompt,
        ratio=ratio,
        seed=_whole(job_input, "seed", secrets.randbelow(_LARGEST_RANDOM_SEED), SEED),
        steps=_whole(job_input, "steps", 4 if with_lora else 20, STEPS),
        cfg=cfg,
        lora_strength=lora_strength,
    )


def check_image_count(count: int) -> None:
    """Raises InvalidInput."""
    if not 1 <= count <= _MOST_IMAGES:
        raise InvalidInput(
            f"input.prompt needs 1 to {_MOST_IMAGES} pictures in input.images; there are {count}"
        )


def compile_edit(edit: PromptEdit, images: Sequence[InputImage]) -> dict[str, dict[str, Any]]:
    """The workflow in API format; node ids are the official template's where it has the node.
    `images` are as many as `check_image_count` allows."""
    names = edit.models
    width, height = _SIZES[edit.ratio] if edit.ratio else _own_size(images[0])
    nodes = {
        "37": _node("UNETLoader", unet_name=names.unet, weight_dtype="default"),
        "38": _node("CLIPLoader", clip_name=names.clip, type="qwen_image", device="default"),
        "39": _node("VAELoader", vae_name=names.vae),
        "66": _node("ModelSamplingAuraFlow", shift=3, model=["37", 0]),
        "75": _node("CFGNorm", strength=1, model=["66", 0]),
        "78": _node("LoadImage", image=images[0].name),
        "117": _node("FluxKontextImageScale", image=["78", 0]),
        "88": _node("EmptySD3LatentImage", width=width, height=height, batch_size=1),
        "3": _node(
            "KSampler", seed=edit.seed, steps=edit.steps, cfg=edit.cfg, sampler_name="euler",
            scheduler="simple", denoise=1, model=["75", 0], positive=["111", 0],
            negative=["110", 0], latent_image=["88", 0],
        ),
        "8": _node("VAEDecode", samples=["3", 0], vae=["39", 0]),
        "60": _node("SaveImage", filename_prefix="edit", images=["8", 0]),
    }  # fmt: skip
    pictures: dict[str, Any] = {"image1": ["117", 0]}
    for number, image in enumerate(images[1:], start=2):
        nodes[f"78:{number}"] = _node("LoadImage", image=image.name)
        pictures[f"image{number}"] = [f"78:{number}", 0]
    encode = {"clip": ["38", 0], "vae": ["39", 0], **pictures}
    nodes["111"] = _node("TextEncodeQwenImageEditPlus", prompt=edit.prompt, **encode)
    if edit.cfg == 1:
        nodes["110"] = _node("ConditioningZeroOut", conditioning=["111", 0])
    else:
        nodes["110"] = _node("TextEncodeQwenImageEditPlus", prompt=edit.negative_prompt, **encode)
    if edit.lora_strength != 0:
        nodes["89"] = _node(
            "LoraLoaderModelOnly", lora_name=names.lora, strength_model=edit.lora_strength,
            model=["37", 0],
        )  # fmt: skip
        nodes["66"]["inputs"]["model"] = ["89", 0]
    return nodes


def _node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def _own_size(image: InputImage) -> tuple[int, int]:
    """The size to which FluxKontextImageScale brings the picture, by the same rule."""
    turned = [(height, width) for width, height in _OWN_SIZES]
    ratio = image.width / image.height
    _, width, height = min((abs(ratio - w / h), w, h) for w, h in (*_OWN_SIZES, *turned))
    return width, height


def _text(job_input: Mapping[str, Any], key: str, *, required: bool) -> str:
    value = job_input.get(key)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or (required and not value.strip()):
        raise InvalidInput(f"input.{key} must be a text")
    if _LONE_SURROGATE.search(value):
        raise InvalidInput(f"input.{key} holds half a character: a surrogate without its other")
    if len(value) > LONGEST_PROMPT:
        raise InvalidInput(f"input.{key} is longer than {LONGEST_PROMPT} characters")
    return value


def _whole(job_input: Mapping[str, Any], key: str, default: int, bounds: Bounds) -> int:
    value = default if job_input.get(key) is None else job_input[key]
    if type(value) is not int or not bounds.hold(value):
        raise InvalidInput(f"input.{key} must be a whole number from {bounds}")
    return value


def _number(job_input: Mapping[str, Any], key: str, default: float, bounds: Bounds) -> float:
    value = default if job_input.get(key) is None else job_input[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not bounds.hold(value):
        raise InvalidInput(f"input.{key} must be a number from {bounds}")
    return float(value)
