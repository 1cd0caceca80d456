"""Prompt mode: what a caller asks for with a text in place of a workflow."""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from handler.contract import Fit, JobInput, OutputSize, Ratio, Speed
from handler.errors import InvalidInput
from handler.models import ModelFile

_MOST_IMAGES = 3
# Whole in every JSON reader, also those that know only floats.
_LARGEST_RANDOM_SEED = 2**53

_Value = TypeVar("_Value")


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
    picture's own; `fit` None is a crop where a ratio asks for one."""

    models: ModelNames
    prompt: str
    negative_prompt: str
    ratio: Ratio | None
    fit: Fit | None
    size: OutputSize
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
    has_lora = models.lora and job_input.get("speed") != Speed.FINE
    lora_strength = _given(job_input.get("lora_strength"), 1.0 if has_lora else 0.0)
    with_lora = lora_strength != 0
    cfg = _given(job_input.get("cfg"), 1.0 if with_lora else 2.5)
    negative_prompt = job_input.get("negative_prompt") or ""
    if negative_prompt and cfg == 1:
        raise InvalidInput(
            "input.negative_prompt has no effect at cfg 1, which is the default with the Lightning "
            "LoRA; set input.cfg above 1 or leave it out"
        )
    _check_fit(job_input)
    return PromptEdit(
        models=models,
        prompt=job_input["prompt"] or "",
        negative_prompt=negative_prompt,
        ratio=job_input.get("ratio"),
        fit=job_input.get("fit"),
        size=_size(job_input),
        seed=_given(job_input.get("seed"), secrets.randbelow(_LARGEST_RANDOM_SEED)),
        steps=_given(job_input.get("steps"), 4 if with_lora else 20),
        cfg=cfg,
        lora_strength=lora_strength,
    )


def _given(value: _Value | None, default: _Value) -> _Value:
    return default if value is None else value


def _check_fit(job_input: JobInput) -> None:
    fit, has_mask = job_input.get("fit"), job_input.get("mask") is not None
    if fit in {Fit.CROP, Fit.EXTEND} and job_input.get("ratio") is None:
        raise InvalidInput(f"input.fit '{fit}' counts only with input.ratio: set it, or leave fit")
    if fit == Fit.WHOLE and not has_mask:
        raise InvalidInput("input.fit 'whole' counts only with input.mask: set it, or leave fit")
    if fit == Fit.TEMPLATE and has_mask:
        raise InvalidInput(
            "input.fit 'template' has no mask: leave fit, or send the template's graph as "
            "input.workflow"
        )


def _size(job_input: JobInput) -> OutputSize:
    wish = (job_input.get("output") or {}).get("size")
    keeps_pixels = job_input.get("mask") is not None or job_input.get("fit") == Fit.EXTEND
    if wish == OutputSize.MODEL and keeps_pixels:
        raise InvalidInput(
            "input.output.size 'model' can't keep the photo's own pixels, as a mask and fit "
            "'extend' do; leave it out"
        )
    if wish == OutputSize.PHOTO and job_input.get("fit") == Fit.TEMPLATE:
        raise InvalidInput(
            "input.output.size 'photo' does not go with input.fit 'template', which crops as it "
            "likes; leave one of them"
        )
    return OutputSize.PHOTO if keeps_pixels else wish or OutputSize.MODEL


def check_image_count(count: int) -> None:
    """Raises InvalidInput."""
    if not 1 <= count <= _MOST_IMAGES:
        raise InvalidInput(
            f"input.prompt needs 1 to {_MOST_IMAGES} pictures in input.images; there are {count}"
        )
