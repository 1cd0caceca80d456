"""Which of ComfyUI's memory flags suit a card and the locked weights.

ComfyUI's own way (no flag) keeps on the card what fits, and moves the rest out and in as it is
needed. A flag is chosen only where that way is known to do worse. The functions named are of the
pinned ComfyUI; no card has confirmed the choices.

- A UNet whose offload device is the card (--highvram, model_management.unet_offload_device) is read
  from the file into the card's memory (sd.load_diffusion_model_state_dict) and stays there when a
  job changes the LoRA; else it goes by way of host memory. The unpatched weights, kept for the next
  change of LoRA (ModelPatcher.patch_weight_to_device), then lie on the card too: up to twice the
  UNet.
- A card without fp8 arithmetic (capability below 8.9, model_management.supports_fp8_compute)
  gets a plain fp8 UNet as bf16, twice its size, wherever that alone fits (unet_dtype).
- The VAE asks for 14000 bytes a pixel (sd.VAE, at 2 bytes a value), and what is loaded makes room
  for it: 14.9 GB for the largest picture that FluxKontextImageScale gives, 800 x 1328.
- The sampler asks for less: at most 5 GB with three pictures (BaseModel.memory_required).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from handler.machine import Gpu
from handler.models import ModelFile

# The VAE's share, ComfyUI's reserve of 0.4 GB, and what CUDA and torch take for themselves.
_WORK_BYTES = 800 * 1328 * 14_000 + 1_500_000_000
# Of the host, for ComfyUI itself: torch, CUDA's libraries, pictures.
_HOST_BYTES = 6_000_000_000
_FP8_COMPUTE = (8, 9)

# comfy/cli_args.py: one of these in COMFY_ARGS shows that the operator has chosen.
MEMORY_FLAGS = (
    "--gpu-only", "--highvram", "--normalvram", "--lowvram", "--novram", "--cpu",
    "--reserve-vram", "--disable-smart-memory",
    "--async-offload", "--disable-async-offload", "--disable-pinned-memory",
    "--cache-classic", "--cache-lru", "--cache-none", "--cache-ram",
    "--force-fp32", "--force-fp16",
    "--fp32-unet", "--fp64-unet", "--bf16-unet", "--fp16-unet",
    "--fp8_e4m3fn-unet", "--fp8_e5m2-unet", "--fp8_e8m0fnu-unet", "--supports-fp8-compute",
    "--fp8_e4m3fn-text-enc", "--fp8_e5m2-text-enc",
    "--fp16-text-enc", "--fp32-text-enc", "--bf16-text-enc",
    "--fp16-vae", "--fp32-vae", "--bf16-vae", "--cpu-vae",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes of the locked files by their use. `is_plain_fp8`: the UNet's values are fp8 without
    scales, which ComfyUI may widen; it never widens scaled ones."""

    unet_bytes: int
    other_bytes: int
    is_plain_fp8: bool

    @classmethod
    def of(cls, models: Iterable[ModelFile]) -> "Weights":
        unet = other = 0
        is_plain_fp8 = False
        for model in models:
            if "unet" in model.folders:
                unet += model.bytes
                is_plain_fp8 = "fp8" in model.file and "scaled" not in model.file
            else:
                other += model.bytes
        return cls(unet, other, is_plain_fp8)


@dataclass(frozen=True, slots=True)
class MemoryChoice:
    """`host_bytes` is the host memory that ComfyUI needs with these flags."""

    flags: tuple[str, ...]
    reason: str
    host_bytes: int = 0


def given_memory_flag(arguments: Sequence[str]) -> str | None:
    """The first memory flag among ComfyUI's arguments, also when shortened as argparse allows, or
    with "=value"."""
    for argument in arguments:
        name = argument.partition("=")[0]
        if len(name) > len("--") and any(flag.startswith(name) for flag in MEMORY_FLAGS):
            return argument
    return None


def choose_memory_flags(
    gpu: Gpu | None, weights: Weights, arguments: Sequence[str]
) -> MemoryChoice:
    """`gpu` is the card that ComfyUI will use, None when it is not known or there is none;
    `arguments` are the operator's, who always wins."""
    if given := given_memory_flag(arguments):
        return MemoryChoice((), f"COMFY_ARGS has {given}")
    if gpu is None:
        return MemoryChoice((), "no NVIDIA card that can be read: ComfyUI's own choice")
    wide_bytes = _loaded_unet_bytes(gpu, weights)
    narrow = weights.unet_bytes + weights.other_bytes + _WORK_BYTES
    wide = narrow - weights.unet_bytes + wide_bytes
    if wide + wide_bytes <= gpu.memory_bytes:
        return MemoryChoice(
            ("--highvram",), "all models, and the UNet without its LoRA, fit on the card",
            _HOST_BYTES,
        )  # fmt: skip
    if wide <= gpu.memory_bytes:
        reason = "all models fit on the card, and ComfyUI keeps them there by itself"
        return MemoryChoice((), reason, _host_bytes(wide_bytes, weights))
    if narrow <= gpu.memory_bytes:
        reason = "all models fit on the card if the UNet stays fp8, which ComfyUI would widen here"
        return MemoryChoice(
            ("--fp8_e4m3fn-unet",), reason, _host_bytes(weights.unet_bytes, weights)
        )
    reason = "not all models fit on the card at once: ComfyUI moves them as it needs them"
    return MemoryChoice((), reason, _host_bytes(wide_bytes, weights))


def _loaded_unet_bytes(gpu: Gpu, weights: Weights) -> int:
    """What the UNet takes on the card without a flag (unet_dtype, maximum_vram_for_weights)."""
    if not weights.is_plain_fp8 or gpu.capability >= _FP8_COMPUTE:
        return weights.unet_bytes
    wide = 2 * weights.unet_bytes
    limit = gpu.memory_bytes * 0.88 - (0.8 * 1024 + 400) * 1024**2
    return wide if wide <= limit else weights.unet_bytes


def _host_bytes(unet_bytes: int, weights: Weights) -> int:
    """The UNet passes through host memory, and what has no room on the card waits there."""
    return unet_bytes + weights.other_bytes + _HOST_BYTES
