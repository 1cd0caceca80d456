import json
from typing import Any

import pytest

from handler.contract.check import check_input
from handler.pictures.images import InputImage
from handler.settings import PROJECT_DIR
from handler.workflow.edit_graph import Sampling, compile_edit
from handler.workflow.prompt_edit import ModelNames, parse_prompt_edit
from handler.workflow.sizes import aligned_size
from handler.workflow.workflow import parse_workflow
from tests.unit.workflow.test_sizes import PHOTOS

NAMES = ModelNames("base.safetensors", "te.safetensors", "vae.safetensors", "lora.safetensors")
EXAMPLE = json.loads((PROJECT_DIR / "examples" / "qwen_image_edit_2509.json").read_text())
Nodes = dict[str, dict[str, Any]]


def picture(name: str = "a.png", width: int = 64, height: int = 64) -> InputImage:
    return InputImage(name, b"", "png", width, height)


def compiled(*images: InputImage, sampling: Sampling | None = None, **job_input: Any) -> Nodes:
    edit = parse_prompt_edit(check_input({"prompt": "make it red", **job_input}), NAMES)
    return compile_edit(edit, images or (picture(),), sampling)


def classes(nodes: Nodes) -> list[str]:
    return sorted(node["class_type"] for node in nodes.values())


def of_class(nodes: Nodes, class_type: str) -> list[dict[str, Any]]:
    return [node["inputs"] for node in nodes.values() if node["class_type"] == class_type]


def references(nodes: Nodes, link: list[Any]) -> list[str]:
    """The nodes that encoded a conditioning's references, in their order."""
    found: list[str] = []
    while nodes[link[0]]["class_type"] == "ReferenceLatent":
        found.insert(0, nodes[link[0]]["inputs"]["latent"][0])
        link = nodes[link[0]]["inputs"]["conditioning"]
    return found


@pytest.mark.parametrize("photo", PHOTOS)
def test_reference_and_sample_have_one_grid_and_nothing_is_cropped(photo: tuple[int, int]) -> None:
    nodes = compiled(picture("a.png", *photo))
    sampler = nodes["3"]["inputs"]
    (encoded,) = references(nodes, sampler["positive"])
    assert sampler["latent_image"] == [encoded, 0]
    scale = nodes[nodes[encoded]["inputs"]["pixels"][0]]["inputs"]
    assert scale["crop"] == "disabled"
    assert scale["image"] == ["78", 0]
    assert (scale["width"], scale["height"]) == aligned_size(*photo)
    assert "vae" not in nodes["111"]["inputs"]
    assert nodes["111"]["inputs"]["image1"] == nodes[encoded]["inputs"]["pixels"]
    assert not {"ImageCrop", "FluxKontextImageScale"} & set(classes(nodes))


def test_a_photo_that_is_on_the_grid_is_not_scaled() -> None:
    nodes = compiled(picture("a.png", 1024, 1024))
    assert "ImageScale" not in classes(nodes)
    assert nodes["88"]["inputs"]["pixels"] == ["78", 0]


def test_another_ratio_is_cropped_from_the_middle_and_sampled_exactly() -> None:
    nodes = compiled(picture("a.png", 3000, 2000), ratio="1:1")
    assert nodes["79"]["inputs"] == {
        "image": ["78", 0], "x": 500, "y": 0, "width": 2000, "height": 2000,
    }  # fmt: skip
    scale = nodes["117"]["inputs"]
    assert (scale["image"], scale["width"], scale["height"]) == (["79", 0], 1024, 1024)


def test_the_ratio_that_a_photo_has_crops_nothing() -> None:
    assert "ImageCrop" not in classes(compiled(picture("a.png", 4032, 3024), ratio="4:3"))


def test_each_picture_is_seen_and_referred_to_once_in_its_own_ratio() -> None:
    nodes = compiled(picture("a.png", 300, 200), picture("b.png", 100, 200), picture("c.png"))
    loaded = [p.name for p in parse_workflow(nodes).loaded_pictures]
    assert sorted(loaded) == ["a.png", "b.png", "c.png"]
    assert references(nodes, nodes["3"]["inputs"]["positive"]) == ["88", "88:2", "88:3"]
    assert nodes["88:2"]["inputs"]["pixels"] == nodes["111"]["inputs"]["image2"]
    scale = nodes["117:2"]["inputs"]
    assert (scale["width"], scale["height"]) == aligned_size(100, 200)


def test_at_cfg_1_no_second_text_encoding_is_made() -> None:
    for fit in (None, "template"):
        nodes = compiled(fit=fit)
        assert classes(nodes).count("TextEncodeQwenImageEditPlus") == 1
        assert nodes["110"]["class_type"] == "ConditioningZeroOut"


def test_above_cfg_1_the_negative_prompt_has_the_same_pictures_and_references() -> None:
    for fit in (None, "template"):
        nodes = compiled(picture(), picture("b.png"), cfg=2.5, negative_prompt="blurred", fit=fit)
        negative, positive = nodes["110"]["inputs"], nodes["111"]["inputs"]
        assert negative == positive | {"prompt": "blurred"}
        sampler = nodes["3"]["inputs"]
        assert references(nodes, sampler["negative"]) == references(nodes, sampler["positive"])


def test_a_mask_bounds_where_the_sampler_draws() -> None:
    sampling = Sampling((800, 608), noise_mask="m.png")
    nodes = compiled(picture("a.png", 800, 608), sampling=sampling)
    (masked,) = of_class(nodes, "SetLatentNoiseMask")
    assert nodes["3"]["inputs"]["latent_image"][0] not in {"88"}
    assert masked["samples"] == ["88", 0]
    assert of_class(nodes, "LoadImageMask") == [{"image": "m.png", "channel": "red"}]
    assert references(nodes, nodes["3"]["inputs"]["positive"]) == ["88"]


def test_the_lora_is_left_out_at_strength_0() -> None:
    assert compiled()["89"]["inputs"]["lora_name"] == "lora.safetensors"
    assert compiled()["66"]["inputs"]["model"] == ["89", 0]
    nodes = compiled(lora_strength=0)
    assert "LoraLoaderModelOnly" not in classes(nodes)
    assert nodes["66"]["inputs"]["model"] == ["37", 0]


@pytest.mark.parametrize("fit", [None, "template"])
def test_what_is_compiled_is_a_workflow_and_knows_its_seed(fit: str | None) -> None:
    assert parse_workflow(compiled(seed=7, fit=fit)).seed == 7


def test_no_photo_is_encoded_for_the_templates_latent_image() -> None:
    assert "VAEEncode" not in classes(compiled(fit="template"))


def test_with_all_work_put_back_the_template_is_the_example_workflow() -> None:
    seed = EXAMPLE["3"]["inputs"]["seed"]
    nodes = compiled(picture("photo.jpg"), cfg=1.5, seed=seed, fit="template")
    expected = {key: node["class_type"] for key, node in EXAMPLE.items()}
    found = {key: node["class_type"] for key, node in nodes.items()}
    assert found == expected | {"88": "EmptySD3LatentImage"}


def test_the_template_has_a_ratio_by_its_sample_alone() -> None:
    latent = compiled(ratio="16:9", fit="template")["88"]["inputs"]
    assert (latent["width"], latent["height"]) == (1280, 720)
    latent = compiled(picture("a.png", 1920, 1080), fit="template")["88"]["inputs"]
    assert (latent["width"], latent["height"]) == (1392, 752)
