"""What the worker tells ComfyUI of the models' places, asked of the real ComfyUI."""

import json
import os
import subprocess
from pathlib import Path

from handler.models.lock import ModelsLock
from handler.models.places import find_models, link_models, model_folders, search_places
from tests.fakes.weights import model_of, safetensors

ROOT = Path(__file__).resolve().parents[3]
COMFY_DIR = Path(os.environ.get("COMFY_DIR", ROOT / "comfy" / "ComfyUI"))
COMFY_PYTHON = Path(os.environ.get("COMFY_PYTHON", ROOT / "comfy" / ".venv" / "bin" / "python"))

ASK = """
import json, sys
config, asked = sys.argv.pop(1), json.loads(sys.argv.pop(1))
import folder_paths
from utils.extra_config import load_extra_path_config
load_extra_path_config(config)
print(json.dumps([
    [folder_paths.get_full_path(kind, name), folder_paths.get_filename_list(kind)]
    for kind, name in asked
]))
"""


def ask_comfyui(config: Path, *asked: tuple[str, str]) -> list[tuple[str | None, list[str]]]:
    """For each kind and name: the path that a loader would open, and the names that it lists."""
    ran = subprocess.run(
        [COMFY_PYTHON, "-c", ASK, config, json.dumps(asked)],
        cwd=COMFY_DIR,
        env={**os.environ, "PYTHONPATH": str(COMFY_DIR)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    answer: list[tuple[str | None, list[str]]] = json.loads(ran.stdout.splitlines()[-1])
    return answer


def place(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_comfyui_opens_the_file_that_was_found_wherever_it_lies(tmp_path: Path) -> None:
    weights = safetensors(b"weights")
    baked, volume, links = tmp_path / "baked", tmp_path / "volume", tmp_path / "run" / "models"
    clip = model_of(weights, "clip", "c.safetensors")
    vae = model_of(weights, "vae", "v.safetensors")
    unet = model_of(weights, "unet", "u.safetensors")
    place(baked / "text_encoders" / clip.file, weights)
    place(volume / "models" / "clip" / clip.file, b"a later place, another file")
    hub = volume / "huggingface-cache" / "hub" / "models--owner--name" / "snapshots"
    place(hub / vae.revision / vae.path, weights)
    place(volume / "ComfyUI" / "models" / "diffusion_models" / unet.file, weights)
    own = place(volume / "models" / "loras" / "mine.safetensors", weights)

    places = search_places(baked, volume)
    found = find_models(ModelsLock("test", (clip, vae, unet)), places)
    link_models(found, links)
    kinds = [folder.name for folder in (COMFY_DIR / "models").glob("*/")]
    config = place(
        tmp_path / "run" / "model_paths.yaml",
        json.dumps(model_folders(links, places, kinds)).encode(),
    )

    loaders = [("text_encoders", clip.file), ("vae", vae.file), ("diffusion_models", unet.file)]
    *answers, lora = ask_comfyui(config, *loaders, ("loras", own.name))
    for at, (path, names) in zip(found, answers, strict=True):
        assert path is not None
        assert Path(path).samefile(at.path)
        assert at.model.file in names
    assert lora[0] == str(own)
