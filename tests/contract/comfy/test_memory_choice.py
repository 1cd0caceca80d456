"""What memory_choice.py knows of ComfyUI, held to the vendored source."""

import re

import pytest

from handler.comfy.memory_choice import MEMORY_FLAGS
from handler.settings import PROJECT_DIR

COMFY = PROJECT_DIR / "comfy" / "ComfyUI" / "comfy"
CLI_ARGS = (COMFY / "cli_args.py").read_text()
# Groups of flags that exclude each other, and the single flags of memory.
GROUPS = ("vram_group", "cache_group", "fpunet_group", "fpte_group", "fpvae_group", "fp_group")
SINGLE = re.compile("vram|smart-memory|offload|pinned|cpu-vae|fp8-compute")


def test_the_memory_flags_are_those_of_comfyui() -> None:
    grouped = {
        flag for group in GROUPS for flag in re.findall(rf'^{group}\..*?"(--\S+)"', CLI_ARGS, re.M)
    }
    single = set(re.findall(r'^parser\.add_argument\("(--\S+)"', CLI_ARGS, re.M))
    assert set(MEMORY_FLAGS) == grouped | {flag for flag in single if SINGLE.search(flag)}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("model_management.py", "def unet_offload_device"),
        ("model_management.py", "def maximum_vram_for_weights"),
        ("model_management.py", "get_total_memory(device) * 0.88 - minimum_inference_memory"),
        ("model_management.py", "EXTRA_RESERVED_VRAM = 400 * 1024 * 1024"),
        ("model_management.py", "(1024 * 1024 * 1024) * 0.8 + extra_reserved_memory()"),
        ("model_management.py", "def unet_dtype"),
        ("model_management.py", "model_params * 2 > free_model_memory"),
        ("model_management.py", "def supports_fp8_compute"),
        ("model_patcher.py", "weight.to(device=self.offload_device"),
        ("model_base.py", "def memory_required"),
        ("sd.py", "7000 * shape[3] * shape[4] * (8 * 8)"),
        ("sd.py", "if model_config.scaled_fp8 is not None"),
        ("sd.py", "model = model.to(offload_device)"),
    ],
)
def test_comfyui_still_does_what_the_choice_rests_on(file: str, text: str) -> None:
    assert text in (COMFY / file).read_text()


def test_the_largest_picture_is_the_one_that_room_is_left_for() -> None:
    nodes = (COMFY.parent / "comfy_extras" / "nodes_flux.py").read_text()
    sizes = re.search(r"PREFERED_KONTEXT_RESOLUTIONS = \[(.*?)\]", nodes, re.S)
    assert sizes
    areas = [int(a) * int(b) for a, b in re.findall(r"\((\d+), (\d+)\)", sizes[1])]
    assert max(areas) == 800 * 1328
