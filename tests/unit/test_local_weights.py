from pathlib import Path

import pytest

from handler.errors import InvalidModelsLock, ModelMissing
from handler.local_weights import choose_weights
from handler.settings import PROJECT_DIR
from tests.fakes.weights import model_of, safetensors, write_lock

WEIGHTS = safetensors(b"weights")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose lock names one small file, on a machine with a GPU."""
    monkeypatch.setattr("handler.local_weights.has_gpu", lambda: True)
    write_lock(tmp_path / "models.lock", model_of(WEIGHTS))
    return tmp_path


def test_without_a_gpu_the_scale_models_are_chosen_in_their_only_profile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("handler.local_weights.has_gpu", lambda: False)
    chosen = choose_weights(PROJECT_DIR, {"WORKER_MODELS_PROFILE": "calibrated"})
    assert chosen.is_scale
    assert chosen.environment["WORKER_MODELS_PROFILE"] == ""


def test_the_real_weights_are_chosen_where_they_are(project: Path) -> None:
    (project / "models" / "vae").mkdir(parents=True)
    (project / "models" / "vae" / "a.safetensors").write_bytes(WEIGHTS)
    environ = {"WORKER_MODELS_DIR": str(project / "models")}
    chosen = choose_weights(project, environ)
    assert (chosen.is_scale, chosen.environment) == (False, environ)


def test_a_named_folder_without_the_weights_is_a_fault(project: Path) -> None:
    with pytest.raises(ModelMissing, match="unset WORKER_MODELS_DIR"):
        choose_weights(project, {"WORKER_MODELS_DIR": str(project / "models")})


def test_the_named_profile_is_the_one_that_is_looked_for(project: Path) -> None:
    environ = {"WORKER_MODELS_DIR": str(project), "WORKER_MODELS_PROFILE": "other"}
    with pytest.raises(InvalidModelsLock, match="no profile 'other'"):
        choose_weights(project, environ)
