import json
import os
import socket
import time
from pathlib import Path

import pytest

from handler.comfy import run_dir as run_dir_module
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
        assert paths.input_dir.parent.parent == tmp_path / "deep" / "run" / "qwen-worker"


def left_behind(run_dir: Path, host: str, hours_ago: float = 0) -> Path:
    """The folder of a worker that was killed."""
    folder = run_dir / "qwen-worker" / "worker-killed"
    (folder / "output" / "job").mkdir(parents=True)
    lock = folder / "worker.lock"
    lock.write_text(host)
    then = lock.stat().st_mtime - hours_ago * 3600
    os.utime(lock, (then, then))
    return folder


@pytest.mark.parametrize(
    ("host", "hours_ago", "stays"),
    [(socket.gethostname(), 0, False), ("another", 0.5, True), ("another", 2, False)],
)
def test_what_a_killed_worker_left_is_removed_once_it_is_surely_gone(
    tmp_path: Path, comfy_dir: Path, host: str, hours_ago: float, stays: bool
) -> None:
    folder = left_behind(tmp_path / "run", host, hours_ago)
    with open_run_dir(tmp_path / "run", (), folder_place(tmp_path), comfy_dir):
        assert folder.exists() is stays


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


def test_several_workers_share_a_folder_and_each_leaves_nothing(
    tmp_path: Path, comfy_dir: Path
) -> None:
    with open_run_dir(tmp_path / "run", (), folder_place(tmp_path), comfy_dir) as paths:
        (paths.output_dir / "picture.png").touch()
        with open_run_dir(tmp_path / "run", (), folder_place(tmp_path), comfy_dir) as others:
            assert others.output_dir != paths.output_dir
        assert not others.output_dir.exists()
        assert (paths.output_dir / "picture.png").exists()
    assert list((tmp_path / "run" / "qwen-worker").iterdir()) == []


def test_a_worker_on_another_machine_is_told_to_live_by_the_time_of_its_lock(
    tmp_path: Path, comfy_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_dir_module, "_ALIVE_EVERY_S", 0.01)
    with open_run_dir(tmp_path / "run", (), folder_place(tmp_path), comfy_dir) as paths:
        lock = paths.input_dir.parent / "worker.lock"
        os.utime(lock, (0, 0))
        deadline = time.monotonic() + 10
        while lock.stat().st_mtime == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_temporary_folder_that_can_not_be_written_is_told_with_the_way_out(
    comfy_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_dir_module.tempfile, "gettempdir", lambda: "/proc/no")
    with (
        pytest.raises(InvalidSettings, match=r"the temporary folder can't be .* WORKER_RUN_DIR"),
        open_run_dir(None, (), folder_place(Path("/models")), comfy_dir),
    ):
        pass


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
