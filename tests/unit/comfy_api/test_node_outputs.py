from typing import Any

import pytest

from handler.comfy_api.node_outputs import NodeText, SavedFile, files_of, named_files_of, texts_of
from handler.errors import ComfyProtocol


def file(name: str, folder_type: str = "output", subfolder: str = "job") -> dict[str, str]:
    return {"filename": name, "subfolder": subfolder, "type": folder_type}


def entry(**outputs: Any) -> dict[str, Any]:
    """Of one node."""
    return {"outputs": {"5": outputs}}


def texts(**outputs: Any) -> list[str]:
    return [text.text for text in texts_of(entry(**outputs))]


@pytest.mark.parametrize("key", ["images", "gifs", "videos", "video", "audio", "3d", "latents"])
def test_files_are_found_under_every_key(key: str) -> None:
    found = files_of(entry(**{key: [file("a.bin"), file("b.bin", "temp", "")]}))
    assert found == (
        SavedFile("5", "a.bin", "job", "output"),
        SavedFile("5", "b.bin", "", "temp"),
    )


def test_what_a_package_adds_to_a_file_is_no_hindrance() -> None:
    clip = file("a.mp4") | {"format": "video/h264-mp4", "frame_rate": 8.0, "fullpath": "/x/a.mp4"}
    assert files_of(entry(gifs=[clip])) == (SavedFile("5", "a.mp4", "job", "output"),)


def test_a_file_without_a_subfolder_lies_at_the_top() -> None:
    [found] = files_of(entry(audio=[{"filename": "a.wav", "type": "output"}]))
    assert found.subfolder == ""


@pytest.mark.parametrize(
    "value", ["text", 7, None, True, {"filename": "a"}, [1, "a", None, [], {"filename": 1}]]
)
def test_what_is_no_file_under_another_key_is_passed_over(value: Any) -> None:
    assert files_of(entry(result=value, images=[file("a.png")])) == (
        SavedFile("5", "a.png", "job", "output"),
    )


@pytest.mark.parametrize("value", [None, 7, ["a.png"], [{"filename": "a.png"}], [{}]])
def test_what_is_no_file_under_images_is_a_fault_of_the_protocol(value: Any) -> None:
    with pytest.raises(ComfyProtocol, match="unknown form"):
        files_of(entry(images=value))


def test_a_file_that_is_named_by_its_path_in_the_jobs_folder_is_found() -> None:
    """As Preview3D does."""
    found = named_files_of(entry(result=["job/mesh/a.glb", None, {"position": 1}]), "job")
    assert found == (SavedFile("5", "a.glb", "job/mesh", "output"),)


@pytest.mark.parametrize(
    "path",
    [
        "job/../other/a.glb",
        "other/a.glb",
        "a.glb",
        "job2/a.glb",
        "/job/a.glb",
        "job/ComfyUI",
        "job/a.txt",
        "job/",
    ],
)
def test_no_other_path_is_taken_for_a_file(path: str) -> None:
    assert named_files_of(entry(result=[path]), "job") == ()


def test_a_path_that_is_shown_as_a_text_is_a_text() -> None:
    shown = entry(text=["job/a.glb"])
    assert named_files_of(shown, "job") == ()
    assert texts_of(shown) == (NodeText("5", "job/a.glb"),)


@pytest.mark.parametrize("key", ["text", "string", "STRING", "tags"])
def test_texts_are_found_under_the_keys_that_packages_use(key: str) -> None:
    assert texts(**{key: ["a cat", "a dog"]}) == ["a cat", "a dog"]


def test_texts_under_other_keys_are_not_for_callers() -> None:
    assert texts(bg_image=["iVBORw0KGgo"], result=["x"]) == []


def test_a_text_that_comfyui_has_split_is_whole_again() -> None:
    assert texts(text=list("a cat")) == ["a cat"]
    assert texts(text=["a"]) == ["a"]


def test_numbers_and_lists_are_shown_as_json() -> None:
    assert texts(text=[7, 1.5, True, ["ä", None], None]) == ["7", "1.5", "true", '["ä", null]']


def test_half_a_surrogate_pair_is_shown_as_a_question_mark() -> None:
    assert texts(text=["a\ud800b"]) == ["a?b"]
