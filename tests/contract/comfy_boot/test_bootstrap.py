"""ComfyUI under comfy/bootstrap.py against ComfyUI as it is: the same nodes, the same pictures."""

import hashlib
import json
import random
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from handler.comfy_api.client import ComfyClient
from handler.comfy_api.history import files_of
from tests.contract.comfy_api.test_comfy_api import BOOTSTRAP, Subject, ended, real_argv, running
from tests.fakes.comfy import free_port, node

PROJECT_DIR = Path(__file__).resolve().parents[3]
PYTHON = PROJECT_DIR / "comfy" / ".venv" / "bin" / "python"

# Each uses what comfy/worker_boot/lazy_list.py has loaded late.
LATE = {
    "Canny": node("Canny", image=["1", 0], low_threshold=0.1, high_threshold=0.3),
    "Morphology": node("Morphology", image=["1", 0], operation="dilate", kernel_size=3),
    "ImageRGBToYUV": node("ImageRGBToYUV", image=["1", 0]),
    "GrowMask": node("GrowMask", mask=["2", 0], expand=5, tapered_corners=True),
}


@pytest.fixture(scope="module", params=["stock", "ours"])
def started(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Subject, Path]]:
    work_dir = tmp_path_factory.mktemp(request.param)
    port = free_port()
    argv = real_argv(port, work_dir, None if request.param == "stock" else BOOTSTRAP)
    with running(argv, port, work_dir / "log") as subject:
        yield subject, work_dir


def object_info(subject: Subject) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{subject.port}/object_info") as answer:
        return json.dumps(json.load(answer), indent=1, sort_keys=True)


def late_pictures(subject: Subject, work_dir: Path) -> dict[str, str]:
    """SHA-256 of each node's picture."""
    prompt = {
        "1": node("LoadImage", image="photo.png"),
        "2": node("ImageToMask", image=["1", 0], channel="red"),
        "3": node("MaskToImage", mask=["GrowMask", 0]),
        **LATE,
    }
    for number, name in enumerate(LATE):
        shown = ["3", 0] if name == "GrowMask" else [name, 0]
        prompt[f"save {name}"] = node("SaveImage", images=shown, filename_prefix=str(number))

    async def run(comfy: ComfyClient) -> dict[str, Any]:
        await comfy.queue_prompt(prompt, "late")
        return await ended(comfy, "late")

    photo = Image.frombytes("RGB", (96, 64), random.Random(1).randbytes(96 * 64 * 3))
    photo.save(work_dir / "input" / "photo.png")
    entry = subject.play(run)
    assert entry["status"]["status_str"] == "success", entry["status"]
    return {
        file.node_id: hashlib.sha256((work_dir / "output" / file.filename).read_bytes()).hexdigest()
        for file in files_of(entry)
    }


_stock: dict[str, Any] = {}


def test_every_node_is_there_and_gives_the_same_pictures(
    started: tuple[Subject, Path],
) -> None:
    """Stock ComfyUI runs first and says what is right."""
    subject, work_dir = started
    found = {"nodes": object_info(subject), "pictures": late_pictures(subject, work_dir)}
    assert len(set(found["pictures"].values())) == len(LATE)
    expected = _stock.setdefault("found", found)
    assert found["nodes"] == expected["nodes"]
    assert found["pictures"] == expected["pictures"]


def test_every_name_of_the_list_is_one_of_the_real_module() -> None:
    """A name that upstream drops would otherwise fail at its use, not at its import."""
    program = """
import importlib, json, sys
sys.path.insert(0, sys.argv[1])
from worker_boot.lazy_list import SOON, lazy_modules
sys.path[0] = sys.argv[2]
wrong = []
for lazy in lazy_modules():
    module = importlib.import_module(lazy.name)
    names = [*lazy.stand_ins, *lazy.early]
    wrong += [f"{lazy.name}.{name}" for name in names if not hasattr(module, name)]
wrong += set(SOON) - {lazy.name for lazy in lazy_modules()}
print(json.dumps(wrong))
"""
    comfy = PROJECT_DIR / "comfy"
    run = subprocess.run(
        [PYTHON, "-c", program, comfy, comfy / "ComfyUI"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout.splitlines()[-1]) == []


def test_samplers_and_upscale_models_find_what_is_loaded_late() -> None:
    """What needs weights is called by its function."""
    program = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from worker_boot.lazy_list import lazy_modules
from worker_boot.lazy_modules import install
comfy = Path(sys.argv[2])
sys.path[0] = str(comfy)
install(lazy_modules(), comfy)
sys.argv[1:] = ["--cpu", "--database-url", "sqlite:///:memory:"]
import comfy.options
comfy.options.enable_args_parsing()
import torch
from comfy import samplers, sd1_clip
from comfy.k_diffusion import sampling
from comfy_extras import nodes_upscale_model
from app.database import db
import comfy.ldm.cascade.stage_c_coder
late = ("scipy.stats", "scipy.integrate", "transformers", "spandrel", "torchvision")
done = [name for name in late if len(vars(sys.modules[name])) > 20]
assert not done, done
class Sampling:
    sigmas = torch.linspace(0, 1, 1000)
assert len(samplers.beta_scheduler(Sampling(), 5)) == 6
def model(x, sigma, **_):
    return x * 0.5
assert sampling.sample_lms(model, torch.ones(1, 1, 2, 2), torch.tensor([1.0, 0.5, 0.0]),
                           extra_args={}, disable=True).isfinite().all()
assert sd1_clip.SDTokenizer().tokenize_with_weights("a cat")
assert not isinstance(1, nodes_upscale_model.ImageModelDescriptor)
assert comfy.ldm.cascade.stage_c_coder.StageC_coder() is not None
assert db.dependencies_available() is True
db.init_db()
assert db.can_create_session() is True
assert db.create_session() is not None
print("good")
"""
    comfy = PROJECT_DIR / "comfy"
    run = subprocess.run(
        [PYTHON, "-c", program, comfy, comfy / "ComfyUI"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "good"
