import json
import os
from pathlib import Path

import pytest

from handler.comfy.run_dir import open_run_dir
from handler.errors import InvalidSettings
from handler.models.places import folder_place


@pytest.fixture
def comfy_dir(tmp_path: Path) -> Path:
    """ComfyUI's source, as far as it is looked at."""
    for kind in ("vae", "unet"):
        (tmp_path / "comfyui" / "models" / kind).mkdir(parents=True)
    (tmp_path / "comfyui" / "models" / "put_models_here").touch()
    return tmp_path / "comfyui"


def test_the_folders_are_made(tmp_path: Path, comfy_dir: Path) -> None:
    with open_run_dir(tmp_path / "deep" / "run", (), folder_place(tmp_path), comfy_dir) as paths:
        assert all(folder.is_dir() for folder in paths.folders)
        assert paths.input_dir == tmp_path / "deep" / "run" / "qwen-worker" / "input"


def test_what_an_earlier_worker_left_is_removed(tmp_path: Path, comfy_dir: Path) -> None:
    left = tmp_path / "run" / "qwen-worker" / "output" / "job" / "picture.png"
    left.parent.mkdir(parents=True)
    left.touch()
    with open_run_dir(tmp_path / "run", (), folder_place(tmp_path), comfy_dir) as paths:
        assert list(paths.output_dir.iterdir()) == []


def test_other_files_in_the_folder_stay(tmp_path: Path, comfy_dir: Path) -> None:
    (tmp_path / "run" / "output").mkdir(parents=True)
    (tmp_path / "run" / "output" / "mine.png").touch()
    with open_run_dir(tmp_path / "run", (), folder_place(tmp_path), comfy_dir):
        pass
    assert (tmp_path / "run" / "output" / "mine.png").exists()


def test_without_a_folder_a_temporary_one_is_made_and_removed(comfy_dir: Path) -> None:
    with open_run_dir(None, (), folder_place(Path("/models")), comfy_dir) as paths:
        run_dir = paths.input_dir.parent
        (paths.output_dir / "picture.png").touch()
    assert not run_dir.exists()


def test_the_temporary_folder_is_removed_after_a_fault_too(comfy_dir: Path) -> None:
    with (
        pytest.raises(SystemExit),
        open_run_dir(None, (), folder_place(Path("/models")), comfy_dir) as paths,
    ):
        raise SystemExit(143)
    assert not paths.input_dir.parent.exists()


def test_comfyui_is_told_of_every_kind_of_model_it_knows(tmp_path: Path, comfy_dir: Path) -> None:
    (tmp_path / "models").mkdir()
    with open_run_dir(tmp_path / "run", (), folder_place(tmp_path / "models"), comfy_dir) as paths:
        told = json.loads(paths.model_paths.read_text())
    for root in (tmp_path / "models", paths.models_dir):
        section = {"base_path": str(root), "is_default": True, "unet": "unet", "vae": "vae"}
        assert section in told.values()


def test_comfyui_is_told_of_our_nodes_where_they_are_named(tmp_path: Path, comfy_dir: Path) -> None:
    def told(nodes_dir: Path | None) -> list[str]:
        place = folder_place(tmp_path)
        with open_run_dir(tmp_path / "run", (), place, comfy_dir, nodes_dir) as paths:
            sections = json.loads(paths.model_paths.read_text())
        return [at["custom_nodes"] for at in sections.values() if "custom_nodes" in at]

    assert told(tmp_path / "nodes") == [str(tmp_path / "nodes")]
    assert told(None) == []


def test_relative_folders_become_absolute(
    tmp_path: Path, comfy_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("models").mkdir()
    with open_run_dir(Path("run"), (), folder_place(Path("models")), comfy_dir) as paths:
        told = json.loads(paths.model_paths.read_text())
    assert paths.input_dir.is_absolute()
    assert str(tmp_path / "models") in {section["base_path"] for section in told.values()}


def test_a_folder_in_use_by_another_worker_is_refused(tmp_path: Path, comfy_dir: Path) -> None:
    with open_run_dir(tmp_path / "run", (), folder_place(tmp_path), comfy_dir) as paths:
        (paths.output_dir / "picture.png").touch()
        with (
            pytest.raises(InvalidSettings, match="in use by another worker"),
            open_run_dir(tmp_path / "run", (), folder_place(tmp_path), comfy_dir),
        ):
            pass
        assert (paths.output_dir / "picture.png").exists()


def test_a_folder_is_free_again_when_its_worker_has_ended(tmp_path: Path, comfy_dir: Path) -> None:
    for _ in range(2):
        with open_run_dir(tmp_path / "run", (), folder_place(tmp_path), comfy_dir):
            pass


def test_a_place_that_is_a_file_is_told(tmp_path: Path, comfy_dir: Path) -> None:
    (tmp_path / "run").touch()
    with (
        pytest.raises(
            InvalidSettings, match=r"WORKER_RUN_DIR .* can't be written: Not a directory"
        ),
        open_run_dir(tmp_path / "run", (), folder_place(tmp_path), comfy_dir),
    ):
        pass


def test_a_folder_that_can_not_be_made_is_told(tmp_path: Path, comfy_dir: Path) -> None:
    with (
        pytest.raises(InvalidSettings, match=r"WORKER_RUN_DIR .* can't be written"),
        open_run_dir(Path("/proc/no/run"), (), folder_place(tmp_path), comfy_dir),
    ):
        pass


def test_a_fault_of_the_worker_is_not_taken_for_one_of_the_folder(
    tmp_path: Path, comfy_dir: Path
) -> None:
    with (
        pytest.raises(FileNotFoundError),
        open_run_dir(tmp_path / "run", (), folder_place(tmp_path), comfy_dir),
    ):
        (tmp_path / "missing").read_bytes()


def test_no_file_stays_open(tmp_path: Path, comfy_dir: Path) -> None:
    before = {file.name for file in Path(f"/proc/{os.getpid()}/fd").iterdir()}
    with open_run_dir(tmp_path / "run", (), folder_place(tmp_path), comfy_dir):
        pass
    assert {file.name for file in Path(f"/proc/{os.getpid()}/fd").iterdir()} == before
