import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handler.settings import PROJECT_DIR
from tests.fakes.weights import model_of, safetensors, write_lock

SCRIPTS = PROJECT_DIR / "scripts"
DOCKER = PROJECT_DIR / "tests" / "children" / "docker.py"
WEIGHTS = safetensors(b"weights")

RunSmoke = Callable[..., int]


@pytest.fixture
def smoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunSmoke:
    """`make smoke IMAGE=...` on a machine with a GPU and one small model, on a stand-in docker."""
    monkeypatch.syspath_prepend(SCRIPTS)
    module: Any = importlib.import_module("smoke")
    monkeypatch.setattr(module, "has_gpu", lambda: True)
    monkeypatch.setattr(module, "PROJECT_DIR", tmp_path)
    write_lock(tmp_path / "models.lock", model_of(WEIGHTS))
    (tmp_path / "models" / "vae").mkdir(parents=True)
    (tmp_path / "models" / "vae" / "a.safetensors").write_bytes(WEIGHTS)
    (tmp_path / "bin").mkdir()
    docker = tmp_path / "bin" / "docker"
    docker.write_text(f'#!/bin/sh\nexec {sys.executable} {DOCKER} "$@"\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{docker.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_DIR", str(tmp_path))
    monkeypatch.setenv("DOCKER_PHOTO", str(PROJECT_DIR / "examples" / "portrait.jpg"))
    monkeypatch.setenv("COMFY_ARGS", "--lowvram")

    def run(*arguments: str) -> int:
        folders = ["--models-dir", str(tmp_path / "models"), "--out", str(tmp_path / "out")]
        monkeypatch.setattr("sys.argv", ["smoke.py", *folders, *arguments])
        return int(module.main())

    return run


def test_a_good_edit_in_the_image_passes_and_is_kept(
    smoke: RunSmoke, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert smoke("--image", "some/image:tag") == 0
    shown = capsys.readouterr().out
    assert "FAIL" not in shown
    assert "Memory flags: --highvram (it fits)" in shown
    assert "first seed again: execute 0.01 s, total 0.01 s" in shown
    kept = {path.name for path in (tmp_path / "out").iterdir()}
    assert kept == {
        "output.png", "other-seed.png", "again.png", "side-by-side.png", "report.json",
        "aligned.png", "template.png", "masked.png",
    }  # fmt: skip
    assert "ok    outside a mask no pixel changes: none" in shown
    assert "worker's own graph: +0.0" in shown or "worker's own graph: -0.0" in shown
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["checks"]["the same seed gives the same picture"]["ok"] is True
    assert abs(report["line_up"]["template"]["right"]) < 0.1
    assert not (tmp_path / "pid").exists()


def test_the_image_gets_the_gpus_the_weights_and_the_operators_arguments(
    smoke: RunSmoke, tmp_path: Path
) -> None:
    smoke("--image", "some/image:tag")
    run = json.loads((tmp_path / "run.json").read_text())
    before, inside = run[: run.index("some/image:tag")], run[run.index("some/image:tag") + 1 :]
    assert before[before.index("--gpus") + 1] == "all"
    assert f"{tmp_path}/models:/workspace/ComfyUI/models:ro" in before
    assert "COMFY_ARGS=--lowvram" in before
    assert inside[:4] == ["/opt/handler/bin/python", "-m", "handler", "--rp_serve_api"]


def test_a_black_picture_fails(
    smoke: RunSmoke, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_DARKNESS", "0")
    assert smoke("--image", "some/image:tag") == 1
    shown = capsys.readouterr().out
    assert "FAIL  it is not black: mean level 0.0" in shown
    assert "FAIL  another seed gives another picture" in shown


def test_a_docker_that_does_not_answer_is_told(
    smoke: RunSmoke, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bin" / "docker").write_text("#!/bin/sh\nexit 1\n")
    assert smoke("--image", "some/image:tag") == 1
    assert "no Docker engine answers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ([], 3, "this machine has no GPU"),
        (["--no-such-flag"], 2, "unrecognized arguments"),
        (["--help"], 0, "3 this machine has no GPU"),
    ],
)
def test_the_exit_codes_are_those_of_the_help(arguments: list[str], code: int, told: str) -> None:
    if code == 3 and Path("/proc/driver/nvidia").exists():
        pytest.skip("this machine has a GPU")
    run = subprocess.run(
        [sys.executable, "scripts/smoke.py", *arguments],
        cwd=PROJECT_DIR, env={**os.environ, "PYTHONPATH": str(PROJECT_DIR)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert run.returncode == code
    assert told in run.stdout + run.stderr
