"""What the rules of pruning leave out changes no pixel: each on the real ComfyUI, scale models."""

import base64
import copy
from typing import Any

import pytest
from PIL import Image

from handler.pruning import RULES
from tests.fakes.runpod_api import RunPodApi
from tests.integration.worker_process import (
    EXAMPLE,
    PORTRAIT,
    WorkerProcess,
    as_base64,
    node,
    pixels,
)

RESULT_S = 240
PHOTO_NAME = EXAMPLE["78"]["inputs"]["image"]
Nodes = dict[str, dict[str, Any]]


def template(*, with_vae: bool = False, **changes: Any) -> Nodes:
    """The official template at 256 x 192; `changes` are inputs by node, or whole nodes. With a VAE
    the texts' encoders work at a megapixel, which takes its time."""
    nodes: Nodes = copy.deepcopy(EXAMPLE) | {
        "117": node(
            "ImageScale", image=["78", 0], upscale_method="lanczos", width=256, height=192,
            crop="center",
        )
    }  # fmt: skip
    nodes["3"]["inputs"]["steps"] = 2
    for encoder in ("110", "111"):
        if not with_vae:
            del nodes[encoder]["inputs"]["vae"]
    for name, change in changes.items():
        node_id = name.removeprefix("node_")
        if "class_type" in change:
            nodes[node_id] = change
        else:
            nodes[node_id]["inputs"] |= change
    return nodes


WORKFLOWS: dict[str, Nodes] = {
    "negative_at_cfg_1": template(node_110={"prompt": "blurred, ugly"}),
    "latent_of_which_only_the_shape_counts": template(node_3={"sampler_name": "dpmpp_2m"}),
    "references_encoded_twice": template(
        with_vae=True, node_3={"cfg": 2.5, "steps": 1}, node_110={"prompt": "blurred"}
    ),
    "same_node_twice": template(
        node_97=copy.deepcopy(EXAMPLE["37"]),
        node_98=node("LoraLoaderModelOnly", **{**EXAMPLE["89"]["inputs"], "model": ["97", 0]}),
        node_99=node("KSampler", **{**EXAMPLE["3"]["inputs"], "model": ["75:2", 0], "seed": 4}),
        **{
            "node_66:2": node("ModelSamplingAuraFlow", shift=3, model=["98", 0]),
            "node_75:2": node("CFGNorm", strength=1, model=["66:2", 0]),
            "node_8:2": node("VAEDecode", samples=["99", 0], vae=["39", 0]),
            "node_60:2": node("SaveImage", images=["8:2", 0], filename_prefix="second"),
        },
    ),
    "batch_repeated_once": template(
        node_98=node("RepeatImageBatch", image=["117", 0], amount=1),
        node_99=node("RepeatLatentBatch", samples=["88", 0], amount=1),
        node_88={"pixels": ["98", 0]},
        node_3={"latent_image": ["99", 0], "sampler_name": "res_multistep"},
    ),
    "preview_for_nobody": template(node_99=node("PreviewImage", images=["117", 0])),
    "unused_branch": template(node_99=node("VAEEncode", pixels=["117", 0], vae=["39", 0])),
}


def output_of(api: RunPodApi, workflow: Nodes, **more: Any) -> dict[str, Any]:
    with Image.open(PORTRAIT) as picture:
        images = [{"name": PHOTO_NAME, "image": as_base64(picture.convert("RGB"))}]
    body = api.result(api.submit({"workflow": workflow, "images": images, **more}), RESULT_S)
    assert "error" not in body, body
    return dict(body["output"])


def pictures_of(output: dict[str, Any]) -> dict[str, bytes]:
    return {entry["node_id"]: pixels(entry["data"]) for entry in output["images"]}


@pytest.mark.parametrize("rule", [rule.name for rule in RULES])
def test_a_rule_changes_no_pixel(api: RunPodApi, worker: WorkerProcess, rule: str) -> None:
    workflow = WORKFLOWS[rule]
    short = output_of(api, workflow)
    assert rule in {work["rule"] for work in short["pruned"]}
    whole = output_of(api, workflow, prune=False)
    assert "pruned" not in whole
    assert pictures_of(short) == pictures_of(whole)
    assert len(set(base64.b64decode(short["image_base64"]))) > 100
    assert short.get("seed") == whole.get("seed")


def test_every_rule_has_a_workflow_here() -> None:
    assert set(WORKFLOWS) == {rule.name for rule in RULES}
