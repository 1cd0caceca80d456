"""Prompt mode: a text and one to three pictures, compiled to the Qwen Image Edit 2509 graph. Pure.

The graph is the official template's (examples/qwen_image_edit_2509.json) less the work that can't
change the picture. At cfg 1 ComfyUI's sampler does not look at the negative conditioning, so no
second text encoding is made for it; at denoise 1 it looks at nothing but the shape of the latent
image, so no photo is encoded for that. tests/integration/test_edit.py holds the pixels equal.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from handler.contract import JobInput, Ratio
from handler.errors import InvalidInput
from handler.models import ModelFile
from handler.pictures import InputImage

_MOST_IMAGES = 3
# Whole in every JSON reader, also those that know only floats.
_LARGEST_RANDOM_SEED = 2**53

_Value = TypeVar("_Value")

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


# By their roles, in the order of ModelNames.
_FOLDERS: Mapping[str, str] = {
    "unet": "unet", "clip": "clip", "vae": "vae", "lightning": "loras"
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelNames:
    """The weights by the names that ComfyUI's loaders know them by; "" for one that is not there.
    `lora` is the Lightning LoRA."""

    unet: str
    clip: str
    vae: str
    lora: str

    @classmethod
    def of(cls, models: Iterable[ModelFile]) -> "ModelNames":
        """Those of a lock, by their roles. In a lock that names none, each is the only file of its
        folder."""
        models = tuple(models)
        by_role = {str(model.role): model.file for model in models if model.role}
        if not by_role:
            by_role = {
                role: files[0]
                for role, folder in _FOLDERS.items()
                if len(files := [at.file for at in models if folder in at.folders]) == 1
            }
        return cls(*(by_role.get(role, "") for role in _FOLDERS))

    @property
    def missing(self) -> tuple[str, ...]:
        """The roles without which there is no prompt mode."""
        return tuple(role for role in ("unet", "clip", "vae") if not getattr(self, role))


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


def parse_prompt_edit(job_input: JobInput, models: ModelNames) -> PromptEdit:
    """Fill in the defaults: 4 steps at cfg 1 with the Lightning LoRA, 20 at 2.5 without it, and a
    random seed. `job_input` is checked key by key and has a prompt. Raises InvalidInput."""
    if models.missing:
        raise InvalidInput(
            "this worker has no prompt mode: its models.lock names no file with the role "
            f"{' or '.join(models.missing)}; send a workflow"
        )
    if not models.lora and job_input.get("lora_strength"):
        raise InvalidInput(
            "input.lora_strength needs the Lightning LoRA, and this worker's models.lock names no "
            "file with the role lightning; leave it out"
        )
    lora_strength = _given(job_input.get("lora_strength"), 1.0 if models.lora else 0.0)
    with_lora = lora_strength != 0
    cfg = _given(job_input.get("cfg"), 1.0 if with_lora else 2.5)
    negative_prompt = job_input.get("negative_prompt") or ""
    if negative_prompt and cfg == 1:
        raise InvalidInput(
            "input.negative_prompt has no effect at cfg 1, which is the default with the Lightning "
            "LoRA; set input.cfg above 1 or leave it out"
        )
    return PromptEdit(
        models=models,
        prompt=job_input["prompt"] or "",
        negative_prompt=negative_prompt,
        ratio=job_input.get("ratio"),
        seed=_given(job_input.get("seed"), secrets.randbelow(_LARGEST_RANDOM_SEED)),
        steps=_given(job_input.get("steps"), 4 if with_lora else 20),
        cfg=cfg,
        lora_strength=lora_strength,
    )


def _given(value: _Value | None, default: _Value) -> _Value:
    return default if value is None else value


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
