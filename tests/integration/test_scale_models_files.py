"""The scale models on disk: the same bytes each time, all or nothing, laid out like the real."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCALE_MODELS = ROOT / "comfy" / "scale_models"
COMFY_PYTHON = Path(os.environ.get("COMFY_PYTHON", ROOT / "comfy" / ".venv" / "bin" / "python"))
PLACES = {
    "clip/qwen_2.5_vl_7b_fp8_scaled.safetensors",
    "vae/qwen_image_vae.safetensors",
    "loras/Qwen-Image-Edit-2509-Lightning-4steps-V1.0-bf16.safetensors",
    "unet/qwen_image_edit_2509_fp8_e4m3fn.safetensors",
}

needs_comfy_python = pytest.mark.skipif(
    not COMFY_PYTHON.exists(), reason="ComfyUI's Python environment is not installed"
)


def command(folder: Path, *options: str) -> list[str]:
    return [str(COMFY_PYTHON), str(SCALE_MODELS / "write.py"), str(folder), *options]


def write(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(folder, *options), capture_output=True, text=True, timeout=120)


def models(folder: Path) -> dict[str, dict[str, object]]:
    lock = tomllib.loads((folder / "models.lock").read_text())
    assert lock["profile"] == "scale"
    return {f"{model['folder']}/{model['file']}": model for model in lock["model"]}


def header(path: Path) -> dict[str, dict]:
    with path.open("rb") as stream:
        return json.loads(stream.read(int.from_bytes(stream.read(8), "little")))


def stamp(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in [folder, *folder.rglob("*")]
    }


def assert_matches_lock(folder: Path) -> None:
    locked = models(folder)
    assert set(locked) == PLACES
    for place, model in locked.items():
        content = (folder / place).read_bytes()
        assert model["bytes"] == len(content)
        assert model["sha256"] == hashlib.sha256(content).hexdigest()
        assert model["path"] == model["file"]
        assert model["repo"] == "local/scale-models"
        assert model["revision"] == "0" * 40
        assert model["licence"] == "GPL-3.0-or-later"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scale") / "models"
    run = write(folder)
    assert run.returncode == 0, run.stderr
    assert all(f"{place}  " in run.stdout for place in PLACES)
    return folder


@needs_comfy_python
def test_lock_matches_the_files(written: Path) -> None:
    assert_matches_lock(written)
    assert sum(path.stat().st_size for path in written.rglob("*")) < 150e6


@needs_comfy_python
def test_same_bytes_each_time(written: Path, tmp_path: Path) -> None:
    assert write(tmp_path / "again").returncode == 0
    assert (tmp_path / "again" / "models.lock").read_text() == (written / "models.lock").read_text()
    assert_matches_lock(tmp_path / "again")


@needs_comfy_python
def test_complete_folder_is_left_alone(written: Path) -> None:
    before = stamp(written)
    run = write(written)
    assert run.returncode == 0
    assert "nothing written" in run.stdout
    assert stamp(written) == before


@needs_comfy_python
def test_missing_or_short_file_is_made_again(written: Path) -> None:
    place = written / "vae" / "qwen_image_vae.safetensors"
    place.write_bytes(place.read_bytes()[:-1])
    assert write(written).returncode == 0
    assert_matches_lock(written)


@needs_comfy_python
def test_force_writes_again(written: Path) -> None:
    before = stamp(written)
    assert write(written, "--force").returncode == 0
    assert not set(before.values()) & set(stamp(written).values())
    assert_matches_lock(written)


@needs_comfy_python
@pytest.mark.parametrize("options", [(), ("--force",)])
def test_real_weights_are_never_replaced(tmp_path: Path, options: tuple[str, ...]) -> None:
    weight = tmp_path / "vae" / "qwen_image_vae.safetensors"
    weight.parent.mkdir()
    weight.write_text("31 GB of somebody's time")
    run = write(tmp_path, *options)
    assert run.returncode == 1
    assert "not a folder of scale models" in run.stderr
    assert weight.read_text() == "31 GB of somebody's time"


def a_file_begun(partial: Path) -> bool:
    return any(partial.rglob("*.safetensors"))


def half_of_the_files(partial: Path) -> bool:
    return len(list(partial.rglob("*.safetensors"))) >= 2


@needs_comfy_python
@pytest.mark.parametrize("moment", [Path.exists, a_file_begun, half_of_the_files])
def test_killed_run_leaves_nothing(tmp_path: Path, moment: Callable[[Path], bool]) -> None:
    folder, partial = tmp_path / "models", tmp_path / ".models.partial"
    process = subprocess.Popen(command(folder), stdout=subprocess.DEVNULL)
    while process.poll() is None and not moment(partial):
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert partial.exists()
    assert not folder.exists()

    assert write(folder).returncode == 0
    assert_matches_lock(folder)
    assert list(tmp_path.iterdir()) == [folder]


@pytest.fixture
def scale_modules(monkeypatch: pytest.MonkeyPatch) -> tuple:
    monkeypatch.syspath_prepend(str(SCALE_MODELS))
    for name in ("dimensions", "layout"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import dimensions
    import layout

    return dimensions, layout


@needs_comfy_python
def test_headers_are_as_laid_out(written: Path, scale_modules: tuple) -> None:
    dims, layout = scale_modules
    layouts = {
        "clip": layout.text_encoder(dims.TEXT_ENCODER, dims.VISION),
        "vae": layout.vae(dims.VAE),
        "loras": layout.lora(dims.LORA, dims.DIFFUSION),
        "unet": layout.diffusion(dims.DIFFUSION, dims.VAE),
    }
    for folder, expected in layouts.items():
        [path] = (written / folder).iterdir()
        found = {
            name: (entry["dtype"], tuple(entry["shape"])) for name, entry in header(path).items()
        }
        assert found == {name: (tensor.dtype, tensor.shape) for name, tensor in expected.items()}
        assert path.stat().st_size == layout.file_bytes(expected)


def test_layout_of_the_true_sizes_gives_the_published_sizes(scale_modules: tuple) -> None:
    """Names, shapes and dtypes all count in these sizes, so one wrong name would be found."""
    dimensions, layout = scale_modules
    vae = dimensions.Vae(width=96, latent=16)
    diffusion = dimensions.Diffusion(blocks=60, heads=24, head_dim=128, context=3584)
    text = dimensions.TextEncoder(
        layers=28,
        hidden=3584,
        intermediate=18944,
        heads=28,
        kv_heads=4,
        head_dim=128,
        vocabulary=152064,
    )
    vision = dimensions.Vision(32, 1280, 3420, 16, (7, 15, 23, 31))
    lora = dimensions.Lora(rank=64, alpha=8)

    assert layout.file_bytes(layout.text_encoder(text, vision)) == 9_384_670_680
    assert layout.file_bytes(layout.vae(vae)) == 253_806_246
    assert layout.file_bytes(layout.lora(lora, diffusion)) == 849_608_296
    # The size of the first Qwen Image Edit. The 2509 file is 63,288 bytes longer (0.0003 %), and
    # nothing public says whether in its header or in a few wider tensors.
    assert layout.file_bytes(layout.diffusion(diffusion, vae)) == 20_430_635_136
