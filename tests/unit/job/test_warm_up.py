import asyncio
from typing import Any, cast

import structlog

from handler.errors import OutOfMemory
from handler.job.runner import Runner
from handler.job.warm_up import warm_up, warm_up_nodes
from handler.pictures.images import InputImage
from handler.workflow.edit_graph import compile_edit
from handler.workflow.prompt_edit import ModelNames, parse_prompt_edit
from handler.workflow.workflow import parse_nodes

NAMES = ModelNames("unet.st", "clip.st", "vae.st", "lora.st")


def test_the_weights_are_loaded_by_the_nodes_that_prompt_mode_has() -> None:
    photo = InputImage("photo.jpg", b"", "jpg", 1000, 800)
    job = compile_edit(parse_prompt_edit({"prompt": "x"}, NAMES), [photo])
    ours = warm_up_nodes(NAMES)
    for node_id in ("37", "38", "39", "89", "66", "75"):
        assert ours[node_id] == job[node_id]


def test_it_needs_no_picture_and_every_link_leads_to_a_node() -> None:
    nodes = warm_up_nodes(NAMES)
    assert parse_nodes(nodes).loaded_pictures == []
    links = [
        value[0] for node in nodes.values() for value in node["inputs"].values()
        if isinstance(value, list)
    ]  # fmt: skip
    assert set(links) <= set(nodes)
    assert nodes["3"]["inputs"]["steps"] == 1


def test_a_failure_is_logged_with_its_code() -> None:
    class Failing:
        async def run(self, *_: Any) -> None:
            raise OutOfMemory("the GPU ran out of memory")

    with structlog.testing.capture_logs() as logs:
        asyncio.run(warm_up(cast(Runner, Failing()), NAMES))
    assert [(line["event"], line["log_level"], line["code"]) for line in logs] == [
        ("warm-up failed", "warning", "out_of_memory")
    ]
