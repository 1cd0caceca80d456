import json
from dataclasses import replace
from typing import Any

import pytest

from handler.errors import InvalidInput
from handler.models import ModelFile
from handler.pictures.images import InputImage
from handler.settings import PROJECT_DIR
from handler.workflow.prompt_edit import (
    ModelNames,
    check_image_count,
    compile_edit,
    parse_prompt_edit,
)
from handler.workflow.workflow import parse_workflow
from tests.fakes.weights import model_of

NAMES = ModelNames("base.safetensors", "te.safetensors", "vae.safetensors", "lora.safetensors")
EXAMPLE = json.loads((PROJECT_DIR / "examples" / "qwen_image_edit_2509.json").read_text())


def picture(name: str = "a.png", width: int = 64, height: int = 64) -> InputImage:
    return InputImage(name, b"", "png", width, height)


def compiled(*images: InputImage, **job_input: Any) -> dict[str, dict[str, Any]]:
    edit = parse_prompt_edit({"prompt": "make it red", **job_input}, NAMES)
    return compile_edit(edit, images or (picture(),))


def sampler(nodes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return dict(nodes["3"]["inputs"])


def classes(nodes: dict[str, dict[str, Any]]) -> list[str]:
    return sorted(node["class_type"] for node in nodes.values())


def test_the_default_is_four_lightning_steps_at_cfg_1() -> None:
    nodes = compiled()
    assert (sampler(nodes)["steps"], sampler(nodes)["cfg"]) == (4, 1)
    assert nodes["89"]["inputs"]["lora_name"] == "lora.safetensors"
    assert nodes["66"]["inputs"]["model"] == ["89", 0]


def test_without_the_lora_the_default_is_twenty_steps_at_two_and_a_half() -> None:
    nodes = compiled(lora_strength=0)
    assert (sampler(nodes)["steps"], sampler(nodes)["cfg"]) == (20, 2.5)
    assert "LoraLoaderModelOnly" not in classes(nodes)
    assert nodes["66"]["inputs"]["model"] == ["37", 0]


def test_at_cfg_1_no_second_text_encoding_is_made() -> None:
    assert classes(compiled()).count("TextEncodeQwenImageEditPlus") == 1
    assert compiled()["110"]["class_type"] == "ConditioningZeroOut"


def test_above_cfg_1_the_negative_prompt_is_encoded_with_the_same_pictures() -> None:
    nodes = compiled(picture(), picture("b.png"), cfg=2.5, negative_prompt="blurred")
    negative, positive = nodes["110"]["inputs"], nodes["111"]["inputs"]
    assert negative == positive | {"prompt": "blurred"}


def test_no_photo_is_encoded_for_the_latent_image() -> None:
    assert "VAEEncode" not in classes(compiled())


def test_with_all_work_put_back_it_is_the_example_workflow() -> None:
    nodes = compiled(picture("photo.jpg"), cfg=1.5, seed=EXAMPLE["3"]["inputs"]["seed"])
    expected = {key: node["class_type"] for key, node in EXAMPLE.items()}
    found = {key: node["class_type"] for key, node in nodes.items()}
    assert found == expected | {"88": "EmptySD3LatentImage"}


@pytest.mark.parametrize(
    ("size", "expected"),
    [((512, 512), (1024, 1024)), ((1920, 1080), (1392, 752)), ((10, 1000), (672, 1568)),
     ((3000, 2000), (1248, 832)), ((2000, 3000), (832, 1248))],
)  # fmt: skip
def test_the_own_ratio_is_the_size_that_the_scale_node_chooses(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    latent = compiled(picture("a.png", *size))["88"]["inputs"]
    assert (latent["width"], latent["height"]) == expected


@pytest.mark.parametrize("ratio", ["1:1", "9:16", "16:9", "3:4", "4:3"])
def test_a_ratio_is_exact_and_near_a_megapixel(ratio: str) -> None:
    latent = compiled(ratio=ratio)["88"]["inputs"]
    width, height = latent["width"], latent["height"]
    across, down = map(int, ratio.split(":"))
    assert width * down == height * across
    assert 0.85e6 < width * height < 1.1e6
    assert width % 16 == height % 16 == 0


def test_each_further_picture_is_loaded_and_referred_to() -> None:
    nodes = compiled(picture("a.png"), picture("b.png"), picture("c.png"))
    loaded = [p.name for p in parse_workflow(nodes).loaded_pictures]
    assert sorted(loaded) == ["a.png", "b.png", "c.png"]
    assert nodes["111"]["inputs"]["image3"] == ["78:3", 0]


def test_what_is_compiled_is_a_workflow_and_knows_its_seed() -> None:
    assert parse_workflow(compiled(seed=7)).seed == 7


def test_the_seed_is_random_when_none_is_given() -> None:
    assert len({sampler(compiled())["seed"] for _ in range(5)}) > 1


@pytest.mark.parametrize("count", [0, 4])
def test_too_few_or_too_many_pictures_are_refused(count: int) -> None:
    with pytest.raises(InvalidInput, match="1 to 3 pictures"):
        check_image_count(count)


def test_a_negative_prompt_that_would_have_no_effect_is_refused() -> None:
    with pytest.raises(InvalidInput, match="cfg"):
        parse_prompt_edit({"prompt": "x", "negative_prompt": "blurred"}, NAMES)


def file_of(folder: str, file: str, role: str | None = None) -> ModelFile:
    return replace(model_of(b"x"), folder=folder, file=file, role=role)  # type: ignore[arg-type]


def test_the_models_are_told_apart_by_their_roles_whatever_their_folders() -> None:
    names = ModelNames.of(
        [
            file_of("diffusion_models", "u", "unet"),
            file_of("text_encoders", "c", "clip"),
            file_of("vae", "v", "vae"),
            file_of("loras", "style"),
            file_of("loras", "l", "lightning"),
        ]
    )
    assert names == ModelNames("u", "c", "v", "l")


def test_a_lock_without_roles_has_the_only_file_of_each_folder() -> None:
    files = [
        file_of("diffusion_models", "u"), file_of("clip", "c"), file_of("vae", "v"),
        file_of("loras", "one"), file_of("loras", "two"),
    ]  # fmt: skip
    assert ModelNames.of(files) == ModelNames("u", "c", "v", "")


@pytest.mark.parametrize("files", [[], [("checkpoints", "x", None)], [("vae", "v", "vae")]])
def test_without_its_models_prompt_mode_is_refused_and_says_what_is_missing(
    files: list[tuple[str, str, str | None]],
) -> None:
    names = ModelNames.of(file_of(*file) for file in files)
    with pytest.raises(InvalidInput, match=r"no file with the role unet or clip"):
        parse_prompt_edit({"prompt": "x"}, names)


def test_without_the_lightning_lora_an_edit_takes_its_steps_and_a_strength_is_refused() -> None:
    names = ModelNames("u", "c", "v", "")
    edit = parse_prompt_edit({"prompt": "x"}, names)
    assert (edit.lora_strength, edit.steps) == (0, 20)
    with pytest.raises(InvalidInput, match="needs the Lightning LoRA"):
        parse_prompt_edit({"prompt": "x", "lora_strength": 1.0}, names)
