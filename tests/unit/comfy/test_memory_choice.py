import pytest

from handler.comfy.memory_choice import (
    MEMORY_FLAGS,
    MemoryChoice,
    Weights,
    choose_memory_flags,
    given_memory_flag,
)
from handler.machine.gpu import Gpu
from handler.models.lock import read_models_lock
from handler.settings import PROJECT_DIR

DEFAULT = Weights.of(read_models_lock(PROJECT_DIR / "models.lock").models)
CALIBRATED = Weights.of(read_models_lock(PROJECT_DIR / "models.lock", "calibrated").models)

HIGHVRAM, FP8 = ("--highvram",), ("--fp8_e4m3fn-unet",)
# Names, memory in MiB as nvidia-smi shows it, compute capability.
CARDS = {
    "RTX 3090": (24_576, (8, 6)),
    "RTX 4090": (24_564, (8, 9)),
    "RTX 5090": (32_607, (12, 0)),
    "A100 40GB": (40_960, (8, 0)),
    "A40": (46_068, (8, 6)),
    "RTX A6000": (49_140, (8, 6)),
    "L40S": (46_068, (8, 9)),
    "RTX 6000 Ada": (49_140, (8, 9)),
    "A100 80GB": (81_920, (8, 0)),
    "H100": (81_559, (9, 0)),
    "RTX PRO 6000": (97_887, (12, 0)),
    "H200": (143_771, (9, 0)),
}


def card(name: str) -> Gpu:
    mib, capability = CARDS[name]
    return Gpu(name, "GPU-1", mib << 20, 0, capability)


def chosen(name: str, weights: Weights = DEFAULT, *arguments: str) -> MemoryChoice:
    return choose_memory_flags(card(name), weights, arguments)


@pytest.mark.parametrize(
    ("name", "flags", "reason"),
    [
        ("RTX 3090", (), "not all models fit"),
        ("RTX 4090", (), "not all models fit"),
        ("RTX 5090", (), "not all models fit"),
        ("A100 40GB", (), "not all models fit"),
        ("A40", FP8, "would widen"),
        ("RTX A6000", FP8, "would widen"),
        ("L40S", (), "keeps them there by itself"),
        ("RTX 6000 Ada", (), "keeps them there by itself"),
        # Its bf16 UNet twice over would not fit, so --highvram would end in out of memory.
        ("A100 80GB", (), "keeps them there by itself"),
        ("H100", HIGHVRAM, "without its LoRA"),
        ("RTX PRO 6000", HIGHVRAM, "without its LoRA"),
        ("H200", HIGHVRAM, "without its LoRA"),
    ],
)
def test_each_card_gets_the_flags_that_suit_it(
    name: str, flags: tuple[str, ...], reason: str
) -> None:
    choice = chosen(name)
    assert choice.flags == flags
    assert reason in choice.reason


@pytest.mark.parametrize("name", ["A40", "RTX A6000"])
def test_a_scaled_unet_is_never_widened_and_needs_no_flag(name: str) -> None:
    assert chosen(name, CALIBRATED).flags == ()


def test_the_host_needs_room_for_a_widened_unet() -> None:
    assert 55e9 < chosen("A100 80GB").host_bytes < 60e9
    assert 35e9 < chosen("RTX 4090").host_bytes < 40e9
    assert chosen("H100").host_bytes < 10e9


def test_without_a_known_card_comfyui_chooses() -> None:
    assert choose_memory_flags(None, DEFAULT, []).flags == ()


@pytest.mark.parametrize("name", CARDS)
@pytest.mark.parametrize("flag", MEMORY_FLAGS)
def test_a_memory_flag_of_the_operators_wins_wholly(name: str, flag: str) -> None:
    choice = chosen(name, DEFAULT, "--verbose", "DEBUG", flag)
    assert choice.flags == ()
    assert flag in choice.reason


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        (["--reserve-vram=2"], "--reserve-vram=2"),
        (["--high"], "--high"),
        (["--use-pytorch-cross-attention", "--lowv"], "--lowv"),
        (["--use-pytorch-cross-attention", "--extra-model-paths-config", "a.yaml"], None),
        (["--fast", "fp16_accumulation"], None),
        (["--preview-method", "lowvram", "-x", "--"], None),
        ([], None),
    ],
)
def test_memory_flags_are_known_by_what_argparse_would_take(
    arguments: list[str], given: str | None
) -> None:
    assert given_memory_flag(arguments) == given
