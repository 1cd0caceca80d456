"""Which tensors the four weight files hold: name, dtype, shape, and how their values spread.

Given the true sizes, these layouts add up to the published files to the byte; a test checks it.
Shapes are as torch has them: a linear layer is (out, in), a convolution (out, in, *kernel).
"""

import json
import math
from collections.abc import Mapping
from typing import NamedTuple

from dimensions import Diffusion, Lora, TextEncoder, Vae, Vision

PATCH = 2  # side, in latent pixels, of the square that makes one image token
TIME_CHANNELS = 256
VISION_PATCH = (2, 14, 14)  # frames, rows, columns
VISION_MERGE = 4  # patches that make one image token of the text encoder
VAE_STAGES = (1, 2, 4, 4)  # width of each stage, in multiples of the VAE's width
VAE_HALVES_TIME = (False, True, True)
BIAS_STD = 0.05

DTYPE_BYTES = {"F32": 4, "BF16": 2, "F8_E4M3": 1}
# safetensors puts tensors in this order of dtypes, so that all stay aligned.
DTYPE_ORDER = tuple(DTYPE_BYTES)

# Attention here is an average over eight thousand random tokens, nearly the same for every prompt
# and photo. Sharper queries and louder values keep the picture depending on both.
DIFFUSION_GAINS = {
    "norm_q": 2.0,
    "norm_added_q": 2.0,
    "norm_added_k": 2.0,
    "to_v": 6.0,
    "add_v_proj": 6.0,
}
# So that strength 1 changes the weights about as much as they are large.
LORA_UP_GAIN = 6.0


class Tensor(NamedTuple):
    """One tensor: values spread evenly around `mean` with standard deviation `std`."""

    dtype: str
    shape: tuple[int, ...]
    std: float = 0.0
    mean: float = 0.0


Layout = dict[str, Tensor]


def diffusion(dims: Diffusion, vae: Vae) -> Layout:
    """All fp8: the published file is a plain cast, norms and biases included."""
    width = dims.heads * dims.head_dim
    token = vae.latent * PATCH**2
    layout = {
        **_linear("img_in", token, width),
        **_linear("txt_in", dims.context, width),
        **_norm("txt_norm", dims.context),
        **_linear("time_text_embed.timestep_embedder.linear_1", TIME_CHANNELS, width),
        **_linear("time_text_embed.timestep_embedder.linear_2", width, width),
        **_linear("norm_out.linear", width, 2 * width),
        **_linear("proj_out", width, token),
    }
    for block in range(dims.blocks):
        layout |= _prefixed(f"transformer_blocks.{block}.", _diffusion_block(width, dims.head_dim))
    return {name: tensor._replace(dtype="F8_E4M3") for name, tensor in layout.items()}


def _diffusion_block(width: int, head_dim: int) -> Layout:
    layout: Layout = {}
    for name, (fan_in, fan_out) in _lora_targets(width).items():
        layout |= _linear(name, fan_in, fan_out, gain=_diffusion_gain(name))
    for stream in ("img", "txt"):
        layout |= _linear(f"{stream}_mod.1", width, 6 * width)
    for name in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
        layout |= _norm(f"attn.{name}", head_dim, value=_diffusion_gain(name))
    return layout


def _diffusion_gain(name: str) -> float:
    return DIFFUSION_GAINS.get(name.removeprefix("attn."), 1.0)


def _lora_targets(width: int) -> dict[str, tuple[int, int]]:
    """Name to (in, out) of the layers of a block that the Lightning LoRA changes."""
    image = ("to_q", "to_k", "to_v", "to_out.0")
    text = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
    targets = {f"attn.{name}": (width, width) for name in (*image, *text)}
    for stream in ("img", "txt"):
        targets[f"{stream}_mlp.net.0.proj"] = (width, 4 * width)
        targets[f"{stream}_mlp.net.2"] = (4 * width, width)
    return targets


def lora(dims: Lora, model: Diffusion) -> Layout:
    layout: Layout = {}
    for block in range(model.blocks):
        for name, (fan_in, fan_out) in _lora_targets(model.heads * model.head_dim).items():
            layer = f"transformer_blocks.{block}.{name}"
            up = LORA_UP_GAIN / math.sqrt(dims.rank)
            layout[f"{layer}.lora_down.weight"] = Tensor("BF16", (dims.rank, fan_in), fan_in**-0.5)
            layout[f"{layer}.lora_up.weight"] = Tensor("BF16", (fan_out, dims.rank), up)
            layout[f"{layer}.alpha"] = Tensor("BF16", (), mean=dims.alpha)
    return layout


def text_encoder(dims: TextEncoder, vision: Vision) -> Layout:
    """Linear layers are fp8, each with a scale for its weight and one for its input; else bf16."""
    layout = {
        "model.embed_tokens.weight": Tensor("BF16", (dims.vocabulary, dims.hidden), 1.0),
        **_norm("model.norm", dims.hidden),
    }
    for layer in range(dims.layers):
        layout |= _prefixed(f"model.layers.{layer}.", _text_layer(dims))
    layout |= _prefixed("visual.", _vision(vision, dims.hidden))
    layout = _scaled_fp8(layout)
    # ComfyUI never uses the output head, but the published file carries it.
    layout["lm_head.weight"] = Tensor("BF16", (dims.vocabulary, dims.hidden), dims.hidden**-0.5)
    layout["scaled_fp8"] = Tensor("F8_E4M3", (0,))
    return layout


def _text_layer(dims: TextEncoder) -> Layout:
    queries = dims.heads * dims.head_dim
    keys = dims.kv_heads * dims.head_dim
    return {
        **_norm("input_layernorm", dims.hidden),
        **_norm("post_attention_layernorm", dims.hidden),
        **_linear("self_attn.q_proj", dims.hidden, queries),
        **_linear("self_attn.k_proj", dims.hidden, keys),
        **_linear("self_attn.v_proj", dims.hidden, keys),
        **_linear("self_attn.o_proj", queries, dims.hidden, bias=False),
        **_linear("mlp.gate_proj", dims.hidden, dims.intermediate, bias=False),
        **_linear("mlp.up_proj", dims.hidden, dims.intermediate, bias=False),
        **_linear("mlp.down_proj", dims.intermediate, dims.hidden, bias=False),
    }


def _vision(dims: Vision, out: int) -> Layout:
    merged = VISION_MERGE * dims.hidden
    layout = {
        **_convolution("patch_embed.proj", 3, dims.hidden, VISION_PATCH, bias=False),
        **_norm("merger.ln_q", dims.hidden),
        **_linear("merger.mlp.0", merged, merged),
        **_linear("merger.mlp.2", merged, out),
    }
    for block in range(dims.blocks):
        layout |= _prefixed(f"blocks.{block}.", _vision_block(dims))
    return layout


def _vision_block(dims: Vision) -> Layout:
    return {
        **_norm("norm1", dims.hidden),
        **_norm("norm2", dims.hidden),
        **_linear("attn.qkv", dims.hidden, 3 * dims.hidden),
        **_linear("attn.proj", dims.hidden, dims.hidden),
        **_linear("mlp.gate_proj", dims.hidden, dims.intermediate),
        **_linear("mlp.up_proj", dims.hidden, dims.intermediate),
        **_linear("mlp.down_proj", dims.intermediate, dims.hidden),
    }


def _scaled_fp8(layout: Layout) -> Layout:
    """`scale_weight` has no value yet: it follows from the weight's largest value."""
    scaled = dict(layout)
    for name, tensor in layout.items():
        layer = name.removesuffix(".weight")
        if len(tensor.shape) == 2 and layer != "model.embed_tokens":
            scaled[name] = tensor._replace(dtype="F8_E4M3")
            scaled[f"{layer}.scale_weight"] = Tensor("F32", (), mean=1.0)
            scaled[f"{layer}.scale_input"] = Tensor("F32", (), mean=1.0)
    return scaled


def vae(dims: Vae) -> Layout:
    return {
        **_prefixed("encoder.", _vae_encoder(dims)),
        **_convolution("conv1", 2 * dims.latent, 2 * dims.latent, (1, 1, 1)),
        **_convolution("conv2", dims.latent, dims.latent, (1, 1, 1)),
        **_prefixed("decoder.", _vae_decoder(dims)),
    }


def _vae_encoder(dims: Vae) -> Layout:
    widths = [dims.width * multiple for multiple in (1, *VAE_STAGES)]
    layout = _convolution("conv1", 3, widths[0], (3, 3, 3))
    index = 0
    for stage, out in enumerate(widths[1:]):
        fan_in = widths[stage]
        for _ in range(2):
            layout |= _prefixed(f"downsamples.{index}.", _vae_residual(fan_in, out))
            fan_in = out
            index += 1
        if stage < len(VAE_HALVES_TIME):
            down = f"downsamples.{index}"
            layout |= _convolution(f"{down}.resample.1", out, out, (3, 3))
            if VAE_HALVES_TIME[stage]:
                layout |= _convolution(f"{down}.time_conv", out, out, (3, 1, 1))
            index += 1
    return layout | _vae_middle(widths[-1]) | _vae_head(widths[-1], 2 * dims.latent)


def _vae_decoder(dims: Vae) -> Layout:
    widths = [dims.width * multiple for multiple in (VAE_STAGES[-1], *reversed(VAE_STAGES))]
    layout = _convolution("conv1", dims.latent, widths[0], (3, 3, 3)) | _vae_middle(widths[0])
    index = 0
    for stage, out in enumerate(widths[1:]):
        # Each upsampling before a stage has halved the channels.
        fan_in = widths[stage] // 2 if stage else widths[stage]
        for _ in range(3):
            layout |= _prefixed(f"upsamples.{index}.", _vae_residual(fan_in, out))
            fan_in = out
            index += 1
        if stage < len(VAE_HALVES_TIME):
            up = f"upsamples.{index}"
            layout |= _convolution(f"{up}.resample.1", out, out // 2, (3, 3))
            if VAE_HALVES_TIME[-1 - stage]:
                layout |= _convolution(f"{up}.time_conv", out, 2 * out, (3, 1, 1))
            index += 1
    return layout | _vae_head(widths[-1], 3)


def _vae_middle(width: int) -> Layout:
    return {
        **_prefixed("middle.0.", _vae_residual(width, width)),
        "middle.1.norm.gamma": Tensor("BF16", (width, 1, 1), mean=1.0),
        **_convolution("middle.1.to_qkv", width, 3 * width, (1, 1)),
        **_convolution("middle.1.proj", width, width, (1, 1)),
        **_prefixed("middle.2.", _vae_residual(width, width)),
    }


def _vae_head(width: int, out: int) -> Layout:
    return {**_vae_norm("head.0", width), **_convolution("head.2", width, out, (3, 3, 3))}


def _vae_residual(fan_in: int, out: int) -> Layout:
    layout = {
        **_vae_norm("residual.0", fan_in),
        **_convolution("residual.2", fan_in, out, (3, 3, 3)),
        **_vae_norm("residual.3", out),
        **_convolution("residual.6", out, out, (3, 3, 3)),
    }
    if fan_in != out:
        layout |= _convolution("shortcut", fan_in, out, (1, 1, 1))
    return layout


def _vae_norm(name: str, width: int) -> Layout:
    return {f"{name}.gamma": Tensor("BF16", (width, 1, 1, 1), mean=1.0)}


def _norm(name: str, width: int, value: float = 1.0) -> Layout:
    return {f"{name}.weight": Tensor("BF16", (width,), mean=value)}


def _linear(name: str, fan_in: int, out: int, *, bias: bool = True, gain: float = 1.0) -> Layout:
    layout = {f"{name}.weight": Tensor("BF16", (out, fan_in), gain * fan_in**-0.5)}
    if bias:
        layout[f"{name}.bias"] = Tensor("BF16", (out,), BIAS_STD)
    return layout


def _convolution(
    name: str, fan_in: int, out: int, kernel: tuple[int, ...], *, bias: bool = True
) -> Layout:
    # One picture has one frame: ComfyUI pads the others with zeros, so they add nothing.
    seen = fan_in * math.prod(kernel[-2:])
    layout = {f"{name}.weight": Tensor("BF16", (out, fan_in, *kernel), seen**-0.5)}
    if bias:
        layout[f"{name}.bias"] = Tensor("BF16", (out,), BIAS_STD)
    return layout


def _prefixed(prefix: str, layout: Layout) -> Layout:
    return {prefix + name: tensor for name, tensor in layout.items()}


def file_bytes(layout: Mapping[str, Tensor]) -> int:
    """Size in bytes of the safetensors file of a layout."""
    header: dict[str, dict[str, object]] = {}
    offset = 0
    for name in sorted(layout, key=lambda name: (DTYPE_ORDER.index(layout[name].dtype), name)):
        tensor = layout[name]
        end = offset + math.prod(tensor.shape) * DTYPE_BYTES[tensor.dtype]
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [offset, end]}
        offset = end
    length = len(json.dumps(header, separators=(",", ":")))
    return 8 + (length + 7) // 8 * 8 + offset
