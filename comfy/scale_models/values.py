"""Fills a layout with numbers and saves it: the only part of the writing that needs torch."""

import hashlib
import math
from pathlib import Path

import torch
from layout import Layout, Tensor
from safetensors.torch import save_file

FP8_MAX = 448.0
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F8_E4M3": torch.float8_e4m3fn}


def save(tensors: Layout, place: Path) -> None:
    """Write the safetensors file of a layout; the same bytes for the same layout."""
    save_file(_values(tensors), place)


def _values(tensors: Layout) -> dict[str, torch.Tensor]:
    values = {}
    for name, tensor in tensors.items():
        value = _spread(name, tensor)
        scale_name = f"{name.removesuffix('.weight')}.scale_weight"
        if name.endswith(".weight") and scale_name in tensors:
            scale = value.abs().max() / FP8_MAX
            values[scale_name] = scale
            value = value / scale
        values.setdefault(name, value.to(DTYPES[tensor.dtype]))
    return values


def _spread(name: str, tensor: Tensor) -> torch.Tensor:
    """Float32 values of `tensor.shape`, 256 evenly spread levels.

    From a hash of the name: torch's generators may change with its version and the processor.
    """
    count = math.prod(tensor.shape)
    if not tensor.std or not count:
        return torch.full(tensor.shape, tensor.mean)
    noise = bytearray(hashlib.shake_128(name.encode()).digest(count))
    levels = torch.frombuffer(noise, dtype=torch.uint8).to(torch.float32) - 127.5
    level_std = math.sqrt((256**2 - 1) / 12)
    return (levels * (tensor.std / level_std) + tensor.mean).reshape(tensor.shape)
