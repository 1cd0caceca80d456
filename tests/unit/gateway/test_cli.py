"""What an operator does on the command line."""

import json
from pathlib import Path

import pytest

from gateway.api.guard import hash_key
from gateway.cli import main
from gateway.settings import Settings
from gateway.store.database import Database
from gateway.store.jobs import JobStore
from gateway.store.keys import Keys
from tests.jobs import make_job


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(tmp_path))


def test_a_key_is_shown_once_and_kept_as_its_hash(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["keys", "add", "ann"]) == 0
    key = capsys.readouterr().out.strip()
    assert len(key) >= 40
    database = Database(f"sqlite:///{tmp_path}/gateway.sqlite")
    assert Keys(database).all() == {hash_key(key): "ann"}
    database.close()
    assert key.encode() not in (tmp_path / "gateway.sqlite").read_bytes()
    assert main(["keys", "add", "ann"]) == 1
    assert "remove it first" in capsys.readouterr().err
    assert main(["keys", "list"]) == 0
    assert capsys.readouterr().out.strip() == "ann"
    assert main(["keys", "remove", "ann"]) == 0
    assert main(["keys", "remove", "ann"]) == 1
    assert main(["keys", "add"]) == 1


def test_a_workers_variables_are_in_runpods_forms(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["worker-env", "--name", "gpu-7", "--url", "https://queue.example/"]) == 0
    lines = (line.partition("=") for line in capsys.readouterr().out.splitlines())
    found = {name: value.strip("'") for name, _, value in lines}
    assert found["RUNPOD_WEBHOOK_GET_JOB"] == "https://queue.example/v2/own/job-take/$ID?gpu=own"
    assert found["RUNPOD_POD_ID"] == "gpu-7"
    assert found["RUNPOD_PING_INTERVAL"] == "10000"
    assert found["RUNPOD_AI_API_KEY"] == (tmp_path / "worker-key").read_text()
    assert (tmp_path / "worker-key").stat().st_mode & 0o077 == 0


def test_all_that_is_known_of_a_job_can_be_printed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["migrate"]) == 0
    capsys.readouterr()
    database = Database(f"sqlite:///{tmp_path}/gateway.sqlite")
    job, _ = JobStore(database).create(make_job(prompt="ทดสอบ"))
    database.close()
    assert main(["job", job.id]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["prompt"], found["events"][0]["state"]) == ("ทดสอบ", "QUEUED")
    assert main(["job", "none"]) == 1


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("GATEWAY_LISTEN", "0.0.0.0:1", "GATEWAY_API_KEYS"),
        ("GATEWAY_ATTEMPTS", "no", "GATEWAY_ATTEMPTS"),
        ("GATEWAY_DATABASE_URL", "mysql://x/y", "GATEWAY_DATABASE_URL"),
        ("GATEWAY_DATABASE_URL", "sqlite://", "GATEWAY_DATABASE_URL"),
        ("GATEWAY_DATA_DIR", "/dev/null/x", "GATEWAY_DATA_DIR"),
        ("GATEWAY_DATABASE_URL", "postgresql://u@127.0.0.1:9/x", "database_unavailable"),
    ],
)
def test_a_gateway_that_can_not_start_says_why_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: str,
    said: str,
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setattr("gateway.cli.configure", lambda *_: None)
    assert main(["serve"]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
