"""The true Qwen Image Edit 2509 graph on the scale models: the picture depends on what it should.

The photo is scaled to 256 x 256 here instead of FluxKontextImageScale's megapixel; the last test
runs the example just as it is, through `make run`'s script.
"""

import copy
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from handler.contract.check import check_input
from handler.models.lock import read_models_lock
from handler.pictures.images import InputImage
from handler.workflow.edit_graph import compile_edit
from handler.workflow.prompt_edit import ModelNames, parse_prompt_edit
from tests.fakes.runpod_api import RunPodApi
from tests.integration.worker_process import (
    EXAMPLE,
    PORTRAIT,
    PROJECT_DIR,
    WorkerProcess,
    as_base64,
    local_environment,
    pixels,
)

RESULT_S = 240
PHOTO_NAME = EXAMPLE["78"]["inputs"]["image"]
SMALL_SCALE = {
    "class_type": "ImageScale",
    "inputs": {
        "image": ["78", 0], "upscale_method": "lanczos", "width": 256, "height": 256,
        "crop": "center",
    },
}  # fmt: skip


def portrait() -> Image.Image:
    with Image.open(PORTRAIT) as picture:
        return picture.convert("RGB")


def edit(api: RunPodApi, workflow: dict[str, Any], picture: Image.Image) -> dict[str, Any]:
    images = [{"name": PHOTO_NAME, "image": as_base64(picture)}]
    body = api.result(api.submit({"workflow": workflow, "images": images}), RESULT_S)
    assert "error" not in body, body
    return dict(body["output"])


def small_edit(api: RunPodApi, picture: Image.Image, **changes: Any) -> bytes:
    """The pixels of an edit; `changes` are inputs by node: `node_3={"seed": 1}`."""
    workflow = copy.deepcopy(EXAMPLE) | {"117": copy.deepcopy(SMALL_SCALE)}
    for name, inputs in changes.items():
        workflow[name.removeprefix("node_")]["inputs"] |= inputs
    output = edit(api, workflow, picture)
    assert (output["images"][0]["width"], output["images"][0]["height"]) == (256, 256)
    return pixels(output["image_base64"])


@pytest.fixture(scope="module")
def reference(api: RunPodApi, worker: WorkerProcess) -> bytes:
    return small_edit(api, portrait())


def test_the_picture_is_neither_flat_nor_black(reference: bytes) -> None:
    assert len(set(reference)) > 100


def test_the_same_input_and_seed_give_the_same_pixels(api: RunPodApi, reference: bytes) -> None:
    assert small_edit(api, portrait()) == reference


def test_another_seed_gives_another_picture(api: RunPodApi, reference: bytes) -> None:
    assert small_edit(api, portrait(), node_3={"seed": 1}) != reference


def test_another_prompt_gives_another_picture(api: RunPodApi, reference: bytes) -> None:
    assert small_edit(api, portrait(), node_111={"prompt": "make it a drawing"}) != reference


def test_another_photo_gives_another_picture(api: RunPodApi, reference: bytes) -> None:
    turned = portrait().transpose(Image.Transpose.ROTATE_180)
    assert small_edit(api, turned) != reference


def test_another_lora_strength_gives_another_picture(api: RunPodApi, reference: bytes) -> None:
    assert small_edit(api, portrait(), node_89={"strength_model": 0.5}) != reference


def test_the_template_has_the_same_pixels_in_full_pruned_and_compiled_by_prompt_mode(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    """The last two are without the second text encoding and the encoding of the latent image."""
    prompt, seed, steps = "make it a drawing", 11, 2
    images = [{"name": PHOTO_NAME, "image": as_base64(portrait().crop((150, 0, 300, 350)))}]
    full = copy.deepcopy(EXAMPLE)
    full["111"]["inputs"]["prompt"] = prompt
    full["3"]["inputs"] |= {"seed": seed, "steps": steps}
    whole, pruned, compiled = (
        api.result(api.submit({"images": images, **job}), RESULT_S)["output"]
        for job in (
            {"workflow": full, "prune": False},
            {"workflow": full},
            {"prompt": prompt, "seed": seed, "steps": steps, "fit": "template"},
        )
    )
    assert "pruned" not in whole
    assert {node_id for work in pruned["pruned"] for node_id in work["nodes"]} == {"110", "88"}
    assert pixels(pruned["image_base64"]) == pixels(whole["image_base64"])
    assert pixels(compiled["image_base64"]) == pixels(whole["image_base64"])
    assert (compiled["seed"], compiled["graph"]) == (seed, "template-1")


def test_a_photo_that_the_worker_scaled_has_the_pixels_of_one_that_comfyui_scaled(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    """`python -m handler compile` gives the graph that does all of it."""
    picture = portrait().resize((1500, 1100))
    image = InputImage(PHOTO_NAME, b"", "png", *picture.size)
    words = {"prompt": "make it a drawing", "seed": 3, "steps": 1, "ratio": "1:1"}
    names = ModelNames.of(read_models_lock(PROJECT_DIR / "models.lock").models)
    graph = compile_edit(parse_prompt_edit(check_input(words), names), [image])
    assert {node["class_type"] for node in graph.values()} >= {"ImageCrop", "ImageScale"}
    images = [{"name": PHOTO_NAME, "image": as_base64(picture)}]
    by_worker, by_comfyui = (
        api.result(api.submit({"images": images, **job}), RESULT_S)["output"]
        for job in (words, {"workflow": graph, "prune": False})
    )
    assert pixels(by_worker["image_base64"]) == pixels(by_comfyui["image_base64"])


def test_make_run_edits_the_example_as_it_is_in_the_sdks_local_mode(tmp_path: Path) -> None:
    """The script behind it, on a second worker."""
    run = subprocess.run(
        [sys.executable, "scripts/run_edit.py", "--out", str(tmp_path)],
        cwd=PROJECT_DIR, env=local_environment(), capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert "KSampler: step 4 of 4" in run.stdout
    assert "SCALE MODELS" in run.stdout
    answer = json.loads(next(tmp_path.glob("*/answer.json")).read_text())
    entry = answer["images"][0]
    assert (entry["node_id"], entry["width"], entry["height"]) == ("60", 1024, 1024)
    assert answer["seed"] == EXAMPLE["3"]["inputs"]["seed"]
    picture = next(tmp_path.glob("*/*.png"))
    assert str(picture) in run.stdout
    assert hashlib.sha256(picture.read_bytes()).hexdigest() == entry["sha256"]
    with Image.open(picture) as image:
        assert len(set(image.convert("RGB").tobytes())) > 100
