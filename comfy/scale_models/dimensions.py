"""The sizes of the scale models, stated once.

`write.py` makes files of these sizes, and the custom node gives ComfyUI's classes the same ones.

Numbers only, so that both can read it: one runs as a script, the other inside ComfyUI.
"""

from typing import NamedTuple


class Diffusion(NamedTuple):
    """Qwen Image's diffusion transformer. Its width is `heads * head_dim`."""

    blocks: int
    heads: int
    head_dim: int
    context: int  # width of one text token; equals TextEncoder.hidden


class TextEncoder(NamedTuple):
    """Qwen 2.5 VL's language model."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int


class Vision(NamedTuple):
    """Qwen 2.5 VL's vision tower; `full_attention` lists the blocks that see the whole picture."""

    blocks: int
    hidden: int
    intermediate: int
    heads: int
    full_attention: tuple[int, ...]


class Vae(NamedTuple):
    """The VAE. ComfyUI reads `width` from the file; `latent` is fixed in its code."""

    width: int
    latent: int


class Lora(NamedTuple):
    """The LoRA: what it adds to a weight is scaled by `alpha / rank`."""

    rank: int
    alpha: float


# Rotary embeddings are laid out for heads of 128 in both transformers, and ComfyUI knows the 7B
# encoder by kv_heads * head_dim being 512. The vocabulary stays whole because the tokenizer is the
# real one. A VAE of width 2 or 4 is no faster: torch then leaves its fast 3-D convolution.
DIFFUSION = Diffusion(blocks=2, heads=2, head_dim=128, context=64)
TEXT_ENCODER = TextEncoder(
    layers=2, hidden=64, intermediate=128, heads=4, kv_heads=4, head_dim=128, vocabulary=152064
)
VISION = Vision(blocks=2, hidden=64, intermediate=96, heads=4, full_attention=(1,))
VAE = Vae(width=8, latent=16)
LORA = Lora(rank=4, alpha=0.5)
