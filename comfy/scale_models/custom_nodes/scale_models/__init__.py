"""Gives ComfyUI's Qwen Image classes the sizes of the scale models. For tests and demonstrations.

ComfyUI reads the depth of the diffusion model and the width of the VAE from the files; every other
size of Qwen Image is fixed in its code. While this is loaded, the true diffusion model, text
encoder and LoRA do not fit and are refused. The true VAE fits and loads.
"""

import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.ldm.qwen_image.model as qwen_image
import comfy.lora
import comfy.text_encoders.llama as llama
import comfy.text_encoders.qwen_vl as qwen_vl
import torch

NODE_CLASS_MAPPINGS: dict[str, type] = {}


def _load_dimensions() -> ModuleType:
    """By its path: inside ComfyUI the name `comfy` is ComfyUI's own package."""
    path = Path(__file__).resolve().parents[2] / "dimensions.py"
    spec = importlib.util.spec_from_file_location("scale_models_dimensions", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_dimensions = _load_dimensions()


class ScaleModelsMismatchError(RuntimeError):
    """Weights that are not the scale models were loaded while the scale models are switched on."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(
            f"scale models are switched on, and this {what} is not one of them: {why}. "
            "Load the files that comfy/scale_models/write.py made, "
            "or start ComfyUI without the custom node scale_models."
        )


class _ExactWeights(torch.nn.Module):
    """ComfyUI loads with strict=False and runs with whatever was missing; this refuses instead."""

    what: str

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        for name, own in self.state_dict().items():
            if name not in state_dict:
                raise ScaleModelsMismatchError(self.what, f"{name} is missing")
            found, expected = tuple(state_dict[name].shape), tuple(own.shape)
            if found != expected:
                raise ScaleModelsMismatchError(self.what, f"{name} is {found}, not {expected}")
        return super().load_state_dict(state_dict, *args, **kwargs)


class _Diffusion(_ExactWeights, qwen_image.QwenImageTransformer2DModel):
    what = "diffusion model"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        dims = _dimensions.DIFFUSION
        if kwargs.get("num_layers") != dims.blocks:
            why = f"it has {kwargs.get('num_layers')} blocks, not {dims.blocks}"
            raise ScaleModelsMismatchError(self.what, why)
        kwargs["num_attention_heads"] = dims.heads
        kwargs["attention_head_dim"] = dims.head_dim
        kwargs["joint_attention_dim"] = dims.context
        super().__init__(*args, **kwargs)


class _TextEncoder(_ExactWeights, llama.Qwen25_7BVLI):
    what = "text encoder"


class _VisionTower(qwen_vl.Qwen2VLVisionTransformer):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        dims = _dimensions.VISION
        kwargs["hidden_size"] = dims.hidden
        kwargs["intermediate_size"] = dims.intermediate
        kwargs["num_heads"] = dims.heads
        kwargs["num_layers"] = dims.blocks
        super().__init__(*args, **kwargs)
        self.fullatt_block_indexes = list(dims.full_attention)


class _TextEncoderConfig(llama.Qwen25_7BVLI_Config):
    head_dim = _dimensions.TEXT_ENCODER.head_dim

    def __init__(self, **given: Any) -> None:
        dims = _dimensions.TEXT_ENCODER
        sizes = {
            "vocab_size": dims.vocabulary,
            "hidden_size": dims.hidden,
            "intermediate_size": dims.intermediate,
            "num_hidden_layers": dims.layers,
            "num_attention_heads": dims.heads,
            "num_key_value_heads": dims.kv_heads,
        }
        super().__init__(**(given | sizes))


_load_lora = comfy.lora.load_lora


def _load_scale_lora(lora: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
    """ComfyUI only logs a LoRA that does not fit, and answers with a picture made without it."""
    rank = _dimensions.LORA.rank
    for name, tensor in lora.items():
        if name.endswith(".lora_down.weight") and tensor.shape[0] != rank:
            raise ScaleModelsMismatchError("LoRA", f"{name} has rank {tensor.shape[0]}, not {rank}")
    return _load_lora(lora, *args, **kwargs)


def _install() -> None:
    """ComfyUI looks these names up when it builds a model, so replacing them is enough."""
    qwen_image.QwenImageTransformer2DModel = _Diffusion
    llama.Qwen25_7BVLI_Config = _TextEncoderConfig
    llama.Qwen25_7BVLI = _TextEncoder
    qwen_vl.Qwen2VLVisionTransformer = _VisionTower
    comfy.lora.load_lora = _load_scale_lora
    logging.warning("scale models: pictures are noise")


_install()
