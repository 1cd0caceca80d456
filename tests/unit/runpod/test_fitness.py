import asyncio
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from handler.errors import GpuUnusable, ModelCorrupt, UploadFailed
from handler.models.places import FoundModel
from handler.runpod.fitness import fitness_checks, run_checks
from tests.fakes.weights import model_of, safetensors

WEIGHTS = safetensors(b"weights")
REFUSAL = UploadFailed("could not reach bucket 'b' (AccessDenied, HTTP 403): may not", bucket="b")


class Bucket:
    """Answers `check` with what it was made with, or never."""

    def __init__(self, doubt: UploadFailed | None = None, hangs: bool = False) -> None:
        self._doubt, self._hangs = doubt, hangs

    async def check(self) -> UploadFailed | None:
        if self._hangs:
            await asyncio.Event().wait()
        return self._doubt


class Supervisor:
    is_ready = False

    async def ensure_ready(self) -> None:
        self.is_ready = True


def run(found: list[FoundModel], bucket: Any, supervisor: Any) -> list[Any]:
    with capture_logs() as logs:
        asyncio.run(run_checks(fitness_checks(found, bucket, supervisor)))
    return logs


def test_sound_weights_a_bucket_and_comfyui_pass(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(WEIGHTS)
    supervisor = Supervisor()
    [line] = run([FoundModel(model_of(WEIGHTS), path, "volume")], Bucket(), supervisor)
    assert (line["event"], line["place"]) == ("model found", "volume")
    assert supervisor.is_ready


def test_weights_that_changed_since_they_were_found_fail_before_comfyui_is_waited_for(
    tmp_path: Path,
) -> None:
    supervisor = Supervisor()
    gone = FoundModel(model_of(WEIGHTS), tmp_path / "gone.safetensors", "volume")
    with pytest.raises(ModelCorrupt):
        run([gone], None, supervisor)
    assert not supervisor.is_ready


def test_a_bucket_that_refuses_to_be_listed_is_only_warned_of() -> None:
    [line] = run([], Bucket(REFUSAL), Supervisor())
    assert (line["log_level"], line["message"]) == ("warning", REFUSAL.message)


def test_a_bucket_that_never_answers_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handler.runpod.fitness._BUCKET_LIMIT_S", 0.05)
    with pytest.raises(UploadFailed, match="did not answer"):
        run([], Bucket(hangs=True), Supervisor())


def test_the_checks_have_the_names_that_runpod_shows() -> None:
    checks: Any = fitness_checks([], None, Supervisor())  # type: ignore[arg-type]
    names = [check.__name__ for check in checks]
    assert names == ["gpu_usable", "models_present", "bucket_reachable", "comfyui_ready"]


def test_a_gpu_that_can_not_be_used_fails_first_and_says_how_to_do_without() -> None:
    supervisor: Any = Supervisor()
    checks = fitness_checks([], None, supervisor, lambda: "the driver shows no device")
    assert checks[0].__name__ == "gpu_usable"
    with pytest.raises(GpuUnusable, match=r"no GPU can be used: the driver shows no device.*--cpu"):
        asyncio.run(run_checks(checks))
    assert not supervisor.is_ready
