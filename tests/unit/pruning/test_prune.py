import copy
import json
from typing import Any

import pytest

from handler.pictures.images import InputImage
from handler.pruning.prune import prune
from handler.pruning.rules import RULES
from handler.settings import PROJECT_DIR
from handler.workflow.prompt_edit import ModelNames
from handler.workflow.workflow import Workflow, parse_workflow

EXAMPLE = json.loads((PROJECT_DIR / "examples" / "qwen_image_edit_2509.json").read_text())
NAMES = ModelNames(
    EXAMPLE["37"]["inputs"]["unet_name"], EXAMPLE["38"]["inputs"]["clip_name"],
    EXAMPLE["39"]["inputs"]["vae_name"], EXAMPLE["89"]["inputs"]["lora_name"],
)  # fmt: skip
PHOTO = EXAMPLE["78"]["inputs"]["image"]
ALL = [rule.name for rule in RULES]
NEGATIVE, LATENT = "negative_at_cfg_1", "latent_of_which_only_the_shape_counts"
Nodes = dict[str, dict[str, Any]]


def example(**changes: Any) -> Nodes:
    """The template; `changes` are inputs by node: `node_3={"seed": 1}`, or a whole node."""
    nodes: Nodes = copy.deepcopy(EXAMPLE)
    for name, change in changes.items():
        node_id = name.removeprefix("node_")
        if "class_type" in change:
            nodes[node_id] = change
        else:
            nodes[node_id]["inputs"] |= change
    return nodes


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def pruned(
    nodes: Nodes, *, rules: Any = ALL, wants_previews: bool = False, is_still: bool = True
) -> tuple[Nodes, dict[str, tuple[str, ...]]]:
    photo = InputImage(PHOTO, b"", "png", 3000, 2000, is_still=is_still)
    workflow = parse_workflow(nodes, most_nodes=20_000)
    assert isinstance(workflow, Workflow)
    before = copy.deepcopy(workflow.nodes)
    left, work = prune(workflow, [photo], NAMES, rules, wants_previews=wants_previews)
    assert workflow.nodes == before
    parse_workflow(dict(left.nodes), most_nodes=20_000)
    return {key: dict(value) for key, value in left.nodes.items()}, dict(work)


def test_of_the_exported_template_the_second_encodings_go() -> None:
    nodes, work = pruned(example())
    assert work == {NEGATIVE: ("110",), LATENT: ("88",)}
    sampler = nodes["3"]["inputs"]
    assert sampler["negative"] == sampler["positive"] == ["111", 0]
    latent = nodes[sampler["latent_image"][0]]
    assert latent == node("EmptySD3LatentImage", width=1248, height=832, batch_size=1)


def test_a_rule_that_is_not_named_is_off() -> None:
    assert pruned(example(), rules=[LATENT])[1] == {LATENT: ("88",)}
    nodes, work = pruned(example(), rules=[])
    assert (nodes, work) == (example(), {})


@pytest.mark.parametrize(
    "changes",
    [
        {"node_3": {"cfg": 1.01}},
        {"node_3": {"cfg": ["99", 0]}, "node_99": node("Computed")},
        {"node_3": {"sampler_name": "euler_cfg_pp"}},
        {"node_75": node("SkimmedCFG", model=["66", 0])},
        {"node_3": {"positive": ["99", 0]}, "node_99": node("Any", c=["111", 0])},
        {"node_3": {"negative": ["99", 0]},
         "node_99": node("ConditioningSetArea", conditioning=["110", 0])},
        {"node_37": node("CheckpointLoaderSimple", ckpt_name="x")},
    ],
)  # fmt: skip
def test_a_negative_that_may_count_stays(changes: dict[str, Any]) -> None:
    nodes, work = pruned(example(**changes), rules=[NEGATIVE])
    assert work == {}
    assert "110" in nodes


def test_a_negative_text_that_others_use_is_encoded_for_them() -> None:
    nodes, work = pruned(
        example(node_99=node("ShowConditioning", conditioning=["110", 0])), rules=[NEGATIVE]
    )
    assert work == {}
    assert "110" in nodes


def test_a_negative_whose_clip_an_unknown_node_has_changed_stays() -> None:
    changes = {"node_99": node("HooksOnClip", clip=["38", 0]), "node_110": {"clip": ["99", 0]}}
    kept = example(**changes, node_98=node("SaveClip", clip=["99", 0]))
    assert NEGATIVE not in pruned(kept)[1]
    kept["111"]["inputs"]["clip"] = ["99", 0]
    assert NEGATIVE in pruned(kept, rules=[NEGATIVE])[1]


@pytest.mark.parametrize(
    ("class_type", "is_pruned"), [("TextFromAnywhere", False), ("PrimitiveString", True)]
)
def test_a_node_of_unknown_effect_runs_as_it_would(class_type: str, is_pruned: bool) -> None:
    changes = {"node_99": node(class_type, value="x"), "node_110": {"prompt": ["99", 0]}}
    assert (NEGATIVE in pruned(example(**changes), rules=[NEGATIVE])[1]) is is_pruned
    # What others need too runs all the same.
    changes["node_111"] = {"prompt": ["99", 0]}
    assert NEGATIVE in pruned(example(**changes), rules=[NEGATIVE])[1]


def test_an_unknown_node_before_a_preview_runs_as_it_would() -> None:
    changes = {
        "node_98": node("Sharpened", image=["8", 0]),
        "node_99": node("PreviewImage", images=["98", 0]),
    }
    assert pruned(example(**changes), rules=["preview_for_nobody"])[1] == {}


def test_a_cfg_that_a_primitive_holds_counts_as_its_value() -> None:
    changes = {"node_3": {"cfg": ["99", 0]}, "node_99": node("PrimitiveFloat", value=1.0)}
    assert NEGATIVE in pruned(example(**changes))[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"node_3": {"denoise": 0.9}},
        {"node_3": {"scheduler": "karras"}},
        {"node_3": {"sampler_name": "ddim"}},
        {"node_66": {"shift": 3.1}},
        {"node_66": {"shift": 0}},
        {"node_75": {"model": ["89", 0]}},
        {"node_37": {"unet_name": "another.safetensors"}},
        {"node_39": {"vae_name": "another.safetensors"}},
        {"node_88": {"pixels": ["98", 0]}, "node_98": node("ImageBlur", image=["117", 0])},
        {"node_3": {"latent_image": ["98", 0]},
         "node_98": node("SetLatentNoiseMask", samples=["88", 0], mask=["78", 1])},
        {"node_98": node("ReferenceLatent", conditioning=["111", 0], latent=["88", 0]),
         "node_3": {"positive": ["98", 0]}},
    ],
)  # fmt: skip
def test_a_latent_that_may_count_stays(changes: dict[str, Any]) -> None:
    nodes, work = pruned(example(**changes), rules=[LATENT])
    assert work == {}
    assert "88" in nodes


def test_the_latent_of_a_picture_that_moves_stays() -> None:
    assert LATENT not in pruned(example(), is_still=False)[1]


def test_the_size_of_a_scaled_picture_is_known() -> None:
    scale = node(
        "ImageScale",
        image=["78", 0],
        upscale_method="lanczos",
        width=530,
        height=256,
        crop="center",
    )
    nodes, work = pruned(example(node_117=scale))
    assert LATENT in work
    latent = nodes[nodes["3"]["inputs"]["latent_image"][0]]["inputs"]
    assert (latent["width"], latent["height"]) == (528, 256)


def test_of_two_same_loaders_one_stays_with_all_its_users() -> None:
    changes = {
        "node_97": copy.deepcopy(EXAMPLE["39"]), "node_98": copy.deepcopy(EXAMPLE["78"]),
        "node_8": {"vae": ["97", 0]}, "node_88": {"pixels": ["98", 0]},
    }  # fmt: skip
    nodes, work = pruned(example(**changes), rules=["same_node_twice"])
    assert work == {"same_node_twice": ("97", "98")}
    assert nodes["8"]["inputs"]["vae"] == ["39", 0]
    assert nodes["88"]["inputs"]["pixels"] == ["78", 0]


def test_two_same_chains_of_loras_become_one() -> None:
    changes = {
        "node_95": copy.deepcopy(EXAMPLE["37"]),
        "node_96": node("LoraLoaderModelOnly", **{**EXAMPLE["89"]["inputs"], "model": ["95", 0]}),
        "node_97": node("KSampler", **{**EXAMPLE["3"]["inputs"], "model": ["96", 0]}),
        "node_98": node("VAEDecode", samples=["97", 0], vae=["39", 0]),
        "node_99": node("SaveImage", images=["98", 0], filename_prefix="x"),
    }
    nodes, work = pruned(example(**changes), rules=["same_node_twice"])
    assert work == {"same_node_twice": ("95", "96")}
    assert nodes["97"]["inputs"]["model"] == ["89", 0]


def test_what_an_unknown_node_may_change_is_not_shared() -> None:
    changes = {
        "node_98": copy.deepcopy(EXAMPLE["78"]), "node_99": node("PaintOver", image=["98", 0]),
    }  # fmt: skip
    assert pruned(example(**changes), rules=["same_node_twice"])[1] == {}


def test_what_an_unknown_node_gets_through_others_is_not_shared() -> None:
    changes = {
        "node_94": copy.deepcopy(EXAMPLE["37"]),
        "node_95": node("ModelSamplingAuraFlow", shift=5, model=["94", 0]),
        "node_96": node("PatchedInPlace", model=["95", 0]),
        "node_97": node("KSampler", **{**EXAMPLE["3"]["inputs"], "model": ["96", 0]}),
        "node_98": node("VAEDecode", samples=["97", 0], vae=["39", 0]),
        "node_99": node("SaveImage", images=["98", 0], filename_prefix="x"),
    }
    assert pruned(example(**changes), rules=["same_node_twice"])[1] == {}
    changes["node_96"] = node("CFGNorm", model=["95", 0], strength=1)
    assert pruned(example(**changes), rules=["same_node_twice"])[1] == {"same_node_twice": ("94",)}


def test_loaders_with_other_inputs_are_not_the_same() -> None:
    changes = {
        "node_97": node("VAELoader", vae_name="another"), "node_8": {"vae": ["97", 0]},
    }  # fmt: skip
    assert pruned(example(**changes), rules=["same_node_twice"])[1] == {}


def test_above_cfg_1_each_picture_is_encoded_once_for_both_texts() -> None:
    nodes, work = pruned(example(node_3={"cfg": 2.5}), rules=["references_encoded_twice"])
    assert work == {"references_encoded_twice": ("110",)}
    assert "vae" not in nodes["110"]["inputs"]
    assert "vae" not in nodes["111"]["inputs"]
    references = [node for node in nodes.values() if node["class_type"] == "ReferenceLatent"]
    assert len({tuple(node["inputs"]["latent"]) for node in references}) == 1
    encoder = nodes[references[0]["inputs"]["latent"][0]]
    scale = nodes[encoder["inputs"]["pixels"][0]]["inputs"]
    # Of the sampled 1248 x 832, as the text's encoder scales it.
    assert (scale["width"], scale["height"], scale["upscale_method"]) == (1256, 840, "area")


def test_references_that_an_unknown_node_may_change_are_encoded_apart() -> None:
    changes = {
        "node_99": node("Tinted", conditioning=["110", 0]),
        "node_3": {"cfg": 2.5, "negative": ["99", 0]},
    }
    assert pruned(example(**changes), rules=["references_encoded_twice"])[1] == {}


def test_a_reference_that_is_longer_than_a_node_can_scale_to_stays() -> None:
    changes = {
        "node_3": {"cfg": 2.5},
        "node_117": node(
            "ImageScale", image=["78", 0], upscale_method="area", width=8000, height=20,
            crop="disabled",
        ),
    }  # fmt: skip
    assert pruned(example(**changes), rules=["references_encoded_twice"])[1] == {}


def test_texts_about_other_pictures_are_encoded_apart() -> None:
    changes = {"node_3": {"cfg": 2.5}, "node_110": {"image1": ["78", 0]}}
    nodes, _ = pruned(example(**changes), rules=["references_encoded_twice"])
    assert nodes == example(**changes)


def test_a_batch_repeated_once_is_not_repeated() -> None:
    changes = {
        "node_99": node("RepeatLatentBatch", samples=["88", 0], amount=1),
        "node_3": {"latent_image": ["99", 0]},
    }
    nodes, _ = pruned(example(**changes), rules=["batch_repeated_once"])
    assert nodes["3"]["inputs"]["latent_image"] == ["88", 0]
    changes["node_99"]["inputs"]["amount"] = 2
    nodes, _ = pruned(example(**changes), rules=["batch_repeated_once"])
    assert nodes["3"]["inputs"]["latent_image"] == ["99", 0]


def test_a_repeated_batch_keeps_its_own_memory_where_an_unknown_node_has_the_other() -> None:
    changes = {
        "node_98": node("RepeatLatentBatch", samples=["88", 0], amount=1),
        "node_99": node("ShiftedInPlace", samples=["88", 0]),
        "node_3": {"latent_image": ["98", 0]},
    }
    assert pruned(example(**changes), rules=["batch_repeated_once"])[1] == {}
    changes["node_99"] = node("ShiftedInPlace", samples=["97", 0])
    changes["node_97"] = node("SetLatentNoiseMask", samples=["98", 0], mask=["78", 1])
    nodes, _ = pruned(example(**changes), rules=["batch_repeated_once"])
    assert nodes["97"]["inputs"]["samples"] == ["98", 0]


def test_a_preview_that_nobody_gets_goes_with_what_only_it_needs() -> None:
    changes = {
        "node_98": node("VAEEncode", pixels=["117", 0], vae=["39", 0]),
        "node_99": node("PreviewImage", images=["117", 0]),
    }
    assert pruned(example(**changes))[1]["preview_for_nobody"] == ("99",)
    assert "preview_for_nobody" not in pruned(example(**changes), wants_previews=True)[1]


def test_a_preview_that_is_all_there_is_stays() -> None:
    nodes = {
        "1": node("LoadImage", image=PHOTO), "2": node("PreviewImage", images=["1", 0]),
    }  # fmt: skip
    assert pruned(nodes) == (nodes, {})


def test_what_no_node_needs_goes() -> None:
    nodes, work = pruned(example(node_99=node("VAELoader", vae_name="missing")))
    assert work["unused_branch"] == ("99",)
    assert "99" not in nodes


def test_a_workflow_without_an_end_is_left_to_comfyui() -> None:
    nodes = {"1": node("VAELoader", vae_name="x")}
    assert pruned(nodes) == (nodes, {})
