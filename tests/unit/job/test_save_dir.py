import base64
import json
from pathlib import Path
from typing import Any

import pytest

from handler.job.save_dir import save_answer


def entry(filename: str, data: bytes) -> dict[str, Any]:
    return {"filename": filename, "type": "base64", "data": base64.b64encode(data).decode()}


def answer(*images: dict[str, Any]) -> dict[str, Any]:
    return {"ok": True, "image_base64": "AAAA", "images": list(images), "timings": {"total": 5}}


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "answer.json"
    }


def saved(save_dir: Path, job_id: str = "job-1") -> Any:
    return json.loads((save_dir / job_id / "answer.json").read_text())


def test_a_picture_is_kept_under_its_own_name(tmp_path: Path) -> None:
    save_answer(tmp_path, "job-1", answer(entry("a_00001_.png", b"one")))
    assert files_in(tmp_path) == {"job-1/a_00001_.png": b"one"}


def test_the_answer_is_kept_with_file_names_in_place_of_data(tmp_path: Path) -> None:
    save_answer(tmp_path, "job-1", answer(entry("a.png", b"one"), entry("b.png", b"two")))
    assert saved(tmp_path) == {
        "ok": True,
        "images": [
            {"filename": "a.png", "type": "file", "data": "a.png"},
            {"filename": "b.png", "type": "file", "data": "b.png"},
        ],
        "timings": {"total": 5},
    }


def test_an_uploaded_picture_stays_an_address(tmp_path: Path) -> None:
    image = {"filename": "a.png", "type": "s3_url", "data": "https://x/a.png"}
    save_answer(tmp_path, "job-1", answer(image))
    assert saved(tmp_path)["images"] == [image]
    assert files_in(tmp_path) == {}


def test_other_files_are_kept_and_texts_stay_in_the_answer(tmp_path: Path) -> None:
    whole = answer() | {
        "files": [
            entry("a.mp4", b"clip"),
            {"filename": "b", "type": "s3_url", "data": "https://x"},
        ],
        "texts": [{"node_id": "7", "text": "a cat"}],
    }
    save_answer(tmp_path, "job-1", whole)
    assert files_in(tmp_path) == {"job-1/a.mp4": b"clip"}
    kept = saved(tmp_path)
    assert [(file["type"], file["data"]) for file in kept["files"]] == [
        ("file", "a.mp4"),
        ("s3_url", "https://x"),
    ]
    assert (kept["images"], kept["texts"]) == ([], whole["texts"])


def test_a_file_and_a_picture_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    whole = answer(entry("a.bin", b"one")) | {"files": [entry("a.bin", b"two")]}
    save_answer(tmp_path, "job-1", whole)
    assert sorted(files_in(tmp_path).values()) == [b"one", b"two"]


def test_a_file_with_the_answer_s_own_name_is_kept_beside_it(tmp_path: Path) -> None:
    save_answer(tmp_path, "job-1", answer() | {"files": [entry("answer.json", b"mine")]})
    assert files_in(tmp_path) == {"job-1/1-answer.json": b"mine"}
    assert saved(tmp_path)["ok"] is True


def test_the_answer_that_the_caller_gets_is_left_alone(tmp_path: Path) -> None:
    whole = answer(entry("a.png", b"one"))
    save_answer(tmp_path, "job-1", whole)
    assert whole == answer(entry("a.png", b"one"))


@pytest.mark.parametrize(
    "names",
    [("a.png", "a.png"), ("a.png", "a.png", "a.png"), ("1-a.png", "a.png", "a.png")],
)
def test_pictures_of_one_name_do_not_overwrite_each_other(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    """As when two nodes save into two folders."""
    images = [entry(name, str(index).encode()) for index, name in enumerate(names)]
    save_answer(tmp_path, "job-1", answer(*images))
    kept = [tmp_path / "job-1" / image["data"] for image in saved(tmp_path)["images"]]
    assert [path.read_bytes() for path in kept] == [
        str(index).encode() for index in range(len(names))
    ]


def test_a_second_run_of_a_job_replaces_the_first(tmp_path: Path) -> None:
    save_answer(tmp_path, "job-1", answer(entry("a.png", b"one")))
    save_answer(tmp_path, "job-1", answer(entry("a.png", b"two")))
    assert files_in(tmp_path) == {"job-1/a.png": b"two"}


@pytest.mark.parametrize(
    ("job_id", "folder"),
    [
        ("../../x", "_.._x"),
        ("/etc", "_etc"),
        ("..", "job"),
        ("", "job"),
        (".hidden", "hidden"),
        ("a b\0", "a_b_"),
        ("local_test-1.2", "local_test-1.2"),
    ],
)
def test_no_job_id_leaves_the_folder(tmp_path: Path, job_id: str, folder: str) -> None:
    save_dir = tmp_path / "deep" / "out"
    save_answer(save_dir, job_id, answer(entry("a.png", b"one")))
    assert files_in(tmp_path) == {f"deep/out/{folder}/a.png": b"one"}
