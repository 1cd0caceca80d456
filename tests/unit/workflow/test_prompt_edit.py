from dataclasses import replace
from typing import Any

import pytest

from handler.contract.check import check_input
from handler.errors import InvalidInput
from handler.models import ModelFile
from handler.workflow.prompt_edit import (
    ModelNames,
    PromptEdit,
    check_image_count,
    parse_prompt_edit,
)
from tests.fakes.weights import model_of

NAMES = ModelNames("base.safetensors", "te.safetensors", "vae.safetensors", "lora.safetensors")


def parsed(size: str | None = None, **job_input: Any) -> PromptEdit:
    output = {"size": size} if size else None
    return parse_prompt_edit(check_input({"prompt": "x", "output": output, **job_input}), NAMES)


def test_the_default_is_four_lightning_steps_at_cfg_1() -> None:
    edit = parsed()
    assert (edit.steps, edit.cfg, edit.lora_strength) == (4, 1, 1)
    assert parsed(speed="fast", seed=3) == parsed(seed=3)


def test_without_the_lora_the_default_is_twenty_steps_at_two_and_a_half() -> None:
    edit = parsed(lora_strength=0)
    assert (edit.steps, edit.cfg) == (20, 2.5)


def test_fine_is_twenty_steps_without_the_lora() -> None:
    edit = parsed(speed="fine")
    assert (edit.steps, edit.cfg, edit.lora_strength) == (20, 2.5, 0)


def test_what_is_asked_for_by_name_counts_more_than_a_speed() -> None:
    edit = parsed(speed="fine", steps=40, cfg=4)
    assert (edit.steps, edit.cfg, edit.lora_strength) == (40, 4, 0)
    assert parsed(speed="fine", lora_strength=1).steps == 4


def test_the_seed_is_random_when_none_is_given() -> None:
    assert len({parsed().seed for _ in range(5)}) > 1


@pytest.mark.parametrize("count", [0, 4])
def test_too_few_or_too_many_pictures_are_refused(count: int) -> None:
    with pytest.raises(InvalidInput, match="1 to 3 pictures"):
        check_image_count(count)


def test_a_negative_prompt_that_would_have_no_effect_is_refused() -> None:
    with pytest.raises(InvalidInput, match="cfg"):
        parsed(negative_prompt="blurred")


@pytest.mark.parametrize(
    ("job_input", "size", "message"),
    [({"fit": "crop"}, None, "counts only with input.ratio"),
     ({"fit": "extend"}, None, "counts only with input.ratio"),
     ({"fit": "whole"}, None, "counts only with input.mask"),
     ({"fit": "template", "mask": "..."}, None, "has no mask"),
     ({"fit": "template"}, "photo", "leave one of them"),
     ({"mask": "..."}, "model", "can't keep the photo's own pixels"),
     ({"fit": "extend", "ratio": "1:1"}, "model", "can't keep the photo's own pixels")],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(
    job_input: dict[str, Any], size: str | None, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        parsed(size, **job_input)


@pytest.mark.parametrize(
    ("job_input", "size", "expected"),
    [({}, None, "model"), ({}, "photo", "photo"), ({"mask": "..."}, None, "photo"),
     ({"fit": "extend", "ratio": "1:1"}, None, "photo"), ({"fit": "template"}, "model", "model")],
)  # fmt: skip
def test_the_picture_has_the_photos_size_where_its_pixels_are_kept(
    job_input: dict[str, Any], size: str | None, expected: str
) -> None:
    assert parsed(size, **job_input).size == expected


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
