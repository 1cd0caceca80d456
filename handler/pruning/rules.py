"""The table of rules: what each leaves out, when, and which of ComfyUI's code makes that true.

A rule is off where that code is not the one it was proved for. To move to another ComfyUI, read the
code that changed, and only then take over the new digest, which
tests/contract/pruning/test_rules.py tells.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from handler.pruning.graph import Graph
from handler.pruning.sampler_rules import (
    latent_of_which_only_the_shape_counts,
    negative_at_cfg_1,
)
from handler.pruning.sharing_rules import (
    batch_repeated_once,
    preview_for_nobody,
    references_encoded_twice,
    same_node_twice,
)

# A file of ComfyUI's and the names of functions, classes and constants in it.
Code = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """`leaves_out` and `when` are for people; `sha256` is of the source of all that `code` names.
    `apply` gives the nodes that stay with less to do. `is_for_previews` rules count only where no
    previews are asked for."""

    name: str
    leaves_out: str
    when: str
    code: Code
    sha256: str
    apply: Callable[[Graph], Iterable[str] | None]
    is_for_previews: bool = False


_SAMPLING: Code = (
    (
        "comfy/samplers.py",
        (
            "sampling_function", "cfg_function", "calc_cond_batch", "_calc_cond_batch_outer",
            "_calc_cond_batch", "process_conds", "create_cond_with_same_area_if_none",
            "apply_empty_x_to_equal_area", "KSamplerX0Inpaint", "KSAMPLER", "ksampler", "CFGGuider",
            "sample", "simple_scheduler", "calculate_sigmas", "sampler_object", "KSampler",
        ),
    ),
    ("comfy/sample.py", ("prepare_noise_inner", "prepare_noise", "fix_empty_latent_channels",
                         "sample")),
    ("comfy/k_diffusion/sampling.py", ("sample_euler", "res_multistep", "sample_res_multistep",
                                       "sample_dpmpp_2m")),
    ("nodes.py", ("common_ksampler", "KSampler", "UNETLoader", "LoraLoader",
                  "LoraLoaderModelOnly")),
    ("comfy_extras/nodes_cfg.py", ("CFGNorm",)),
    ("comfy_extras/nodes_model_advanced.py", ("ModelSamplingSD3", "ModelSamplingAuraFlow")),
)  # fmt: skip
_CONDITIONING: Code = (
    ("nodes.py", ("CLIPTextEncode", "ConditioningZeroOut")),
    ("comfy_extras/nodes_qwen.py", ("TextEncodeQwenImageEdit", "TextEncodeQwenImageEditPlus")),
    ("comfy_extras/nodes_edit_model.py", ("ReferenceLatent",)),
    ("comfy_extras/nodes_flux.py", ("FluxKontextMultiReferenceLatentMethod",)),
)
_PICTURES: Code = (
    ("nodes.py", ("LoadImage", "ImageScale", "VAEEncode", "VAELoader")),
    ("comfy/utils.py", ("common_upscale", "lanczos")),
    ("comfy_extras/nodes_flux.py", ("PREFERED_KONTEXT_RESOLUTIONS", "FluxKontextImageScale")),
)
_FLOW: Code = (
    ("comfy/model_sampling.py", ("CONST", "ModelSamplingDiscreteFlow", "time_snr_shift")),
    ("comfy/model_base.py", ("BaseModel", "QwenImage")),
    ("comfy_extras/nodes_sd3.py", ("EmptySD3LatentImage",)),
    ("comfy/sd.py", ("VAE",)),
)
_BATCHES: Code = (
    ("nodes.py", ("RepeatLatentBatch",)),
    ("comfy_extras/nodes_images.py", ("RepeatImageBatch",)),
)
_USERS: Code = (
    ("nodes.py", ("CLIPLoader", "VAEDecode", "SaveImage", "PreviewImage", "SetLatentNoiseMask")),
)

# In this order: what is the same is one node before others look at who uses it.
RULES = (
    Rule(
        "unused_branch",
        "loaders, encodings and the like that no other node needs",
        "always; ComfyUI would not run them, but other rules count users",
        (("execution.py", ("validate_prompt",)),),
        "4c307728bb413bca13c6445d88c5041f1fbe3e272e8cf2165c84c80878c6f26c",
        Graph.cut_loose_ends,
    ),
    Rule(
        "same_node_twice",
        "a loader, a LoRA, a scaled or an encoded picture that the workflow has once already",
        "class and inputs are the same, and all that use either are known to change no input",
        _SAMPLING + _CONDITIONING + _PICTURES + _BATCHES + _USERS,
        "5d5725152125efe43bd4bd2dab97dde161748c7831c30002799e4cb370809699",
        same_node_twice,
    ),
    Rule(
        "batch_repeated_once",
        "`RepeatImageBatch`, `RepeatLatentBatch`",
        "`amount` is 1",
        _BATCHES,
        "d787e0f8a23a38c3b81c6ba27e2d5dbe7fcf951c578677e60067a5f676e2351d",
        batch_repeated_once,
    ),
    Rule(
        "negative_at_cfg_1",
        "the encoding of a `KSampler`'s negative text",
        "`cfg` is 1; `sampler_name` is `euler`, `res_multistep` or `dpmpp_2m`; known nodes "
        "make the model; both conditionings are plain encodings, with references at most, and "
        "the negative's clip is as loaded or the positive's",
        _SAMPLING + _CONDITIONING,
        "34963952c302c262acc24fc0a489afb8ab9110eb086386f15a43af43298fcd7b",
        negative_at_cfg_1,
    ),
    Rule(
        "latent_of_which_only_the_shape_counts",
        "the `VAEEncode` of a `KSampler`'s `latent_image`",
        "`denoise` is 1, `scheduler` `simple`, the model sampling's shift a whole number; "
        "the model and the VAE are the locked ones; the picture's size is known",
        _SAMPLING + _PICTURES + _FLOW,
        "795f99b2cc6ab8e35bd92d053b62e73d1d91cd64e11bc2b5aad242070a8bc6f7",
        latent_of_which_only_the_shape_counts,
    ),
    Rule(
        "references_encoded_twice",
        "the second encoding of the pictures, for a negative text above cfg 1",
        "two `TextEncodeQwenImageEditPlus` have the same pictures, of known sizes, and VAE",
        _CONDITIONING + _PICTURES,
        "5321ea6a19a6ffb294ed044affe1ce4705ac281ff7fe576fb9c725503fa31b87",
        references_encoded_twice,
    ),
    Rule(
        "preview_for_nobody",
        "`PreviewImage`, and what only it needs",
        "`output.previews` is not set, and there is a `SaveImage`",
        (("nodes.py", ("SaveImage", "PreviewImage")),),
        "b0f7dd31d9365fafe930a1db8dde7107d40c0961943dd3140ded6245ce7c4aae",
        preview_for_nobody,
        is_for_previews=True,
    ),
)  # fmt: skip
