"""The graphs that prompt mode compiles; docs/workflow-changelog.md tells their versions.

`aligned` scales a picture once, to the very size at which it is sampled, and crops nothing. Each
picture's latent is its reference, and the first one's shape is the sample's. So a pixel of the
result lies where it lay in the photo.

`template` is the official template's graph (examples/qwen_image_edit_2509.json), which scales
twice, by two rules: the sample is of one of 17 sizes, the reference of a megapixel in multiples of
8. It is compiled less the work that can't change the picture: at cfg 1 ComfyUI's sampler does not
look at the negative conditioning, so no second text encoding is made for it; at denoise 1 it looks
at nothing but the shape of the latent image, so no photo is encoded for that.
tests/integration/test_edit.py holds the pixels equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from handler.contract import Fit
from handler.pictures import InputImage
from handler.workflow.prompt_edit import PromptEdit
from handler.workflow.sizes import RATIO_SIZES, Window, aligned_size, cropped_to, template_size

# The first points to the graph, the second counts its changes.
ALIGNED, TEMPLATE = "aligned-1", "template-1"

Nodes = dict[str, dict[str, Any]]
Link = list[Any]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the first picture meets the model: at `size` (width, height), after a crop if any; only
    where the picture called `noise_mask`, of that size, is white, if there is one."""

    size: tuple[int, int]
    crop: Window | None = None
    noise_mask: str | None = None


@dataclass(frozen=True, slots=True)
class Blank:
    """A black picture that ComfyUI makes, in the place of one that a caller sends."""

    width: int
    height: int


def sampling_of(edit: PromptEdit, image: InputImage | Blank) -> Sampling:
    """Of a whole photo, for a picture of its own ratio or cropped to another."""
    if edit.ratio is None:
        return Sampling(aligned_size(image.width, image.height))
    window = cropped_to(edit.ratio, image.width, image.height)
    is_cropped = (window.width, window.height) != (image.width, image.height)
    return Sampling(RATIO_SIZES[edit.ratio], window if is_cropped else None)


def compile_edit(
    edit: PromptEdit, images: Sequence[InputImage | Blank], sampling: Sampling | None = None
) -> Nodes:
    """The workflow in API format; node ids are the official template's where it has the node.
    `images` are as many as `check_image_count` allows; `sampling` None is that of a whole photo."""
    if edit.fit is Fit.TEMPLATE:
        return _template(edit, images)
    return _aligned(edit, images, sampling or sampling_of(edit, images[0]))


def graph_version(edit: PromptEdit) -> str:
    return TEMPLATE if edit.fit is Fit.TEMPLATE else ALIGNED


def _aligned(edit: PromptEdit, images: Sequence[InputImage | Blank], sampling: Sampling) -> Nodes:
    nodes = _frame(edit)
    pictures: dict[str, Link] = {}
    latents: list[Link] = []
    for number, image in enumerate(images, start=1):
        suffix = "" if number == 1 else f":{number}"
        nodes[f"78{suffix}"] = _source(image)
        source: Link = [f"78{suffix}", 0]
        if number == 1 and sampling.crop:
            x, y, width, height = sampling.crop
            nodes["79"] = _node("ImageCrop", image=source, x=x, y=y, width=width, height=height)
            source = ["79", 0]
        size = sampling.size if number == 1 else aligned_size(image.width, image.height)
        if sampling.crop or size != (image.width, image.height):
            nodes[f"117{suffix}"] = _node(
                "ImageScale", image=source, upscale_method="lanczos", width=size[0],
                height=size[1], crop="disabled",
            )  # fmt: skip
            source = [f"117{suffix}", 0]
        nodes[f"88{suffix}"] = _node("VAEEncode", pixels=source, vae=["39", 0])
        pictures[f"image{number}"] = source
        latents.append([f"88{suffix}", 0])
    nodes["111"] = _node(
        "TextEncodeQwenImageEditPlus", prompt=edit.prompt, clip=["38", 0], **pictures
    )
    positive = _refer(nodes, ["111", 0], latents, "112")
    if edit.cfg == 1:
        nodes["110"] = _node("ConditioningZeroOut", conditioning=positive)
        negative: Link = ["110", 0]
    else:
        nodes["110"] = _node(
            "TextEncodeQwenImageEditPlus", prompt=edit.negative_prompt, clip=["38", 0], **pictures
        )
        negative = _refer(nodes, ["110", 0], latents, "113")
    nodes["3"]["inputs"] |= {"positive": positive, "negative": negative, "latent_image": ["88", 0]}
    if sampling.noise_mask:
        nodes["89:mask"] = _node("LoadImageMask", image=sampling.noise_mask, channel="red")
        nodes["88:mask"] = _node("SetLatentNoiseMask", samples=["88", 0], mask=["89:mask", 0])
        nodes["3"]["inputs"]["latent_image"] = ["88:mask", 0]
    return nodes


def _refer(nodes: Nodes, conditioning: Link, latents: Sequence[Link], node_id: str) -> Link:
    """The conditioning with each latent as a reference, in their order."""
    for number, latent in enumerate(latents, start=1):
        name = node_id if number == 1 else f"{node_id}:{number}"
        nodes[name] = _node("ReferenceLatent", conditioning=conditioning, latent=latent)
        conditioning = [name, 0]
    return conditioning


def _template(edit: PromptEdit, images: Sequence[InputImage | Blank]) -> Nodes:
    nodes = _frame(edit)
    width, height = (
        RATIO_SIZES[edit.ratio] if edit.ratio else template_size(images[0].width, images[0].height)
    )
    nodes["78"] = _source(images[0])
    nodes["117"] = _node("FluxKontextImageScale", image=["78", 0])
    nodes["88"] = _node("EmptySD3LatentImage", width=width, height=height, batch_size=1)
    pictures: dict[str, Link] = {"image1": ["117", 0]}
    for number, image in enumerate(images[1:], start=2):
        nodes[f"78:{number}"] = _source(image)
        pictures[f"image{number}"] = [f"78:{number}", 0]
    encode = {"clip": ["38", 0], "vae": ["39", 0], **pictures}
    nodes["111"] = _node("TextEncodeQwenImageEditPlus", prompt=edit.prompt, **encode)
    if edit.cfg == 1:
        nodes["110"] = _node("ConditioningZeroOut", conditioning=["111", 0])
    else:
        nodes["110"] = _node("TextEncodeQwenImageEditPlus", prompt=edit.negative_prompt, **encode)
    nodes["3"]["inputs"] |= {
        "positive": ["111", 0], "negative": ["110", 0], "latent_image": ["88", 0],
    }  # fmt: skip
    return nodes


def _frame(edit: PromptEdit) -> Nodes:
    """What every graph has: the models, the sampler without its inputs, and what comes after it."""
    names = edit.models
    nodes = {
        "37": _node("UNETLoader", unet_name=names.unet, weight_dtype="default"),
        "38": _node("CLIPLoader", clip_name=names.clip, type="qwen_image", device="default"),
        "39": _node("VAELoader", vae_name=names.vae),
        "66": _node("ModelSamplingAuraFlow", shift=3, model=["37", 0]),
        "75": _node("CFGNorm", strength=1, model=["66", 0]),
        "3": _node(
            "KSampler", seed=edit.seed, steps=edit.steps, cfg=edit.cfg, sampler_name="euler",
            scheduler="simple", denoise=1, model=["75", 0],
        ),
        "8": _node("VAEDecode", samples=["3", 0], vae=["39", 0]),
        "60": _node("SaveImage", filename_prefix="edit", images=["8", 0]),
    }  # fmt: skip
    if edit.lora_strength != 0:
        nodes["89"] = _node(
            "LoraLoaderModelOnly", lora_name=names.lora, strength_model=edit.lora_strength,
            model=["37", 0],
        )  # fmt: skip
        nodes["66"]["inputs"]["model"] = ["89", 0]
    return nodes


def _source(image: InputImage | Blank) -> dict[str, Any]:
    if isinstance(image, Blank):
        return _node("EmptyImage", width=image.width, height=image.height, batch_size=1, color=0)
    return _node("LoadImage", image=image.name)


def _node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}
