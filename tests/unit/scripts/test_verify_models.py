"""The real command, in a folder that can't be written to."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from handler.settings import PROJECT_DIR
from tests.fakes.weights import model_of, safetensors, write_lock

WEIGHTS = safetensors(b"weights" * 1000)
MODEL = model_of(WEIGHTS)
UNET = model_of(WEIGHTS, "unet", "u.safetensors")


@pytest.fixture
def read_only_models(tmp_path: Path) -> Iterator[Path]:
    models = tmp_path / "models"
    for place in ("vae/a.safetensors", "diffusion_models/u.safetensors"):
        (models / place).parent.mkdir(parents=True)
        (models / place).write_bytes(WEIGHTS)
    folders = [models, models / "vae", models / "diffusion_models"]
    for folder in folders:
        folder.chmod(0o555)
    yield models
    for folder in folders:
        folder.chmod(0o755)


def verify(models_dir: Path, lock: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "scripts/verify_models.py", "--models-dir", models_dir, "--lock", lock],
        cwd=PROJECT_DIR,
        env={**os.environ, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_verify_passes_on_right_files_and_writes_nothing(
    tmp_path: Path, read_only_models: Path
) -> None:
    lock = write_lock(tmp_path / "models.lock", MODEL, UNET)
    before = sorted(read_only_models.rglob("*"))
    ran = verify(read_only_models, lock)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert f"vae/a.safetensors  {len(WEIGHTS):,} of {len(WEIGHTS):,} bytes  100 %" in ran.stdout
    assert ran.stdout.endswith("2 of 2 model files are right\n")
    assert sorted(read_only_models.rglob("*")) == before


def test_verify_lists_every_fault(tmp_path: Path, read_only_models: Path) -> None:
    lock = write_lock(
        tmp_path / "models.lock",
        model_of(WEIGHTS, "loras", "gone.safetensors"),
        replace(MODEL, sha256="0" * 64),
        replace(UNET, bytes=5),
        model_of(WEIGHTS, "clip", "gone-too.safetensors"),
    )
    ran = verify(read_only_models, lock)
    assert ran.returncode == 1
    assert ran.stderr.count("FAULT ") == 4
    for named in ("gone.safetensors", "gone-too.safetensors", "0" * 64, "the locked one has 5"):
        assert named in ran.stderr
    assert ran.stdout.endswith("0 of 4 model files are right\n")


def test_verify_names_a_bad_lock(tmp_path: Path) -> None:
    ran = verify(tmp_path, write_lock(tmp_path / "models.lock", replace(MODEL, bytes=0)))
    assert ran.returncode == 1
    assert ran.stderr.startswith(str(tmp_path / "models.lock"))
    assert "Traceback" not in ran.stderr
