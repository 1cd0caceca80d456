"""Fetching with the real huggingface_hub, from a stand-in for the hub on loopback."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from handler.errors import ModelFetchFailed, ModelMissing
from handler.hub.client import Hub
from handler.hub.download import Patience
from handler.hub.fetch import fetch_models, fetch_target, find_or_fetch
from handler.models.check import check_model, sample_digest, sample_spans
from handler.models.lock import ModelFile, ModelsLock, read_models_lock
from handler.models.places import search_places
from tests.fakes.hub import FakeHub
from tests.fakes.weights import model_of, safetensors, write_lock

ROOT = Path(__file__).resolve().parents[3]
MB = 1_000_000
WEIGHTS = safetensors(random.Random(1).randbytes(3 * MB))
BASE = model_of(WEIGHTS, "unet", "u.safetensors", revision="a" * 40)
SMALL = [
    (model_of(content, folder, f"{folder}.safetensors", f"owner/{folder}"), content)
    for folder, content in (
        (folder, safetensors(folder.encode() * 1000)) for folder in ("clip", "vae", "loras")
    )
]
QUICK = Patience(
    tries=3, first_wait_s=0.01, longest_wait_s=5, poll_s=0.02, stale_s=0.5, report_s=0.05
)


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        hub.add(BASE, WEIGHTS)
        for model, content in SMALL:
            hub.add(model, content)
        yield hub


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "models"


def fetch(
    hub: FakeHub,
    into: Path,
    *models: ModelFile,
    token: str | None = None,
    free_bytes: int = 10**12,
    patience: Patience = QUICK,
) -> list[str]:
    """The lines that were reported."""
    lines: list[str] = []
    fetch_models(
        models or (BASE,), into, Hub(hub.url, token), report=lines.append, patience=patience,
        free_bytes=lambda _: free_bytes,
    )  # fmt: skip
    return lines


def failure(*args: object, **kwargs: object) -> ModelFetchFailed:
    with pytest.raises(ModelFetchFailed) as caught:
        fetch(*args, **kwargs)  # type: ignore[arg-type]
    return caught.value


def place_of(into: Path, model: ModelFile = BASE) -> Path:
    return into / model.folder / model.file


def parts(into: Path) -> list[Path]:
    return sorted(into.rglob("*.part"))


def part_name(model: ModelFile, machine: str) -> str:
    return f".{model.file}.{model.sha256[:12]}.{machine}.01234567.part"


def write_part(into: Path, content: bytes, machine: str | None = None, age_s: float = 0) -> Path:
    """What an earlier process left, of this machine if none is named."""
    name = machine or "".join(c if c.isalnum() else "-" for c in os.uname().nodename)
    path = into / BASE.folder / part_name(BASE, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (time.time() - age_s,) * 2)
    return path


# All goes well


def test_the_locked_files_are_fetched_and_right(hub: FakeHub, into: Path) -> None:
    models = [BASE, *(model for model, _ in SMALL)]
    fetch(hub, into, *models)
    for model in models:
        assert hashlib.sha256(place_of(into, model).read_bytes()).hexdigest() == model.sha256
        check_model(model, place_of(into, model))
    visible = {path.relative_to(into) for path in into.rglob("[!.]*") if path.is_file()}
    assert visible == {Path(model.folder, model.file) for model in models}
    assert parts(into) == []


def test_only_the_locked_commit_and_files_are_asked_for(hub: FakeHub, into: Path) -> None:
    fetch(hub, into)
    asked = {request.path for request in hub.requests if request.side == "hub"}
    assert asked == {f"/owner/name/resolve/{BASE.revision}/{BASE.path}"}


def test_what_is_there_is_not_fetched_again_nor_read_again(hub: FakeHub, into: Path) -> None:
    fetch(hub, into)
    seen = len(hub.requests)
    lines = fetch(hub, into)
    assert lines == ["unet/u.safetensors: already there"]
    assert len(hub.requests) == seen


def test_a_right_file_that_nobody_noted_is_read_once(hub: FakeHub, into: Path) -> None:
    into.joinpath("diffusion_models").mkdir(parents=True)
    into.joinpath("diffusion_models", BASE.file).write_bytes(WEIGHTS)
    first, second = fetch(hub, into), fetch(hub, into)
    assert "its SHA-256 is looked at" in first[0]
    assert first[1:] == second == ["unet/u.safetensors: already there"]
    assert hub.requests == []


@pytest.mark.parametrize("content", [b"cut off", WEIGHTS[:-1] + b"x"], ids=["size", "bytes"])
def test_a_wrong_file_is_replaced(hub: FakeHub, into: Path, content: bytes) -> None:
    place_of(into).parent.mkdir(parents=True)
    place_of(into).write_bytes(content)
    fetch(hub, into)
    assert place_of(into).read_bytes() == WEIGHTS


def test_a_file_that_was_written_since_it_was_noted_is_read_again(hub: FakeHub, into: Path) -> None:
    fetch(hub, into)
    place_of(into).write_bytes(WEIGHTS[:-1] + b"x")
    fetch(hub, into)
    assert place_of(into).read_bytes() == WEIGHTS


def test_progress_is_told_in_lines(hub: FakeHub, into: Path) -> None:
    hub.add(BASE, WEIGHTS, stall_after=MB)
    threading.Timer(0.5, hub.released.set).start()
    lines = fetch(hub, into)
    assert lines[0] == f"unet/u.safetensors: fetching {BASE.bytes:,} bytes"
    assert any(line.startswith("1,000,000 of 3,000,") for line in lines)
    assert lines[-1] == "unet/u.safetensors: fetched, its SHA-256 is right"


# The token


def test_the_token_goes_to_the_hub_and_not_to_its_cdn(hub: FakeHub, into: Path) -> None:
    hub.token = "hf_secret"
    fetch(hub, into, token="hf_secret")
    for request in hub.requests:
        wanted = "Bearer hf_secret" if request.side == "hub" else None
        assert request.headers.get("authorization") == wanted


def test_no_token_is_taken_from_the_disk(
    hub: FakeHub, into: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("hf_of_the_user")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_environment")
    fetch(hub, into)
    assert not any("authorization" in request.headers for request in hub.requests)


# The hub refuses


@pytest.mark.parametrize("token", [None, "hf_wrong"])
def test_a_refusal_names_the_token_and_is_not_repeated(
    hub: FakeHub, into: Path, token: str | None
) -> None:
    hub.token = "hf_right"
    error = failure(hub, into, token=token)
    assert error.details["kind"] == "unauthorized"
    assert "401" in error.message
    assert "HF_TOKEN" in error.message
    assert "hf_" not in error.message
    assert len(hub.requests) == 1


def test_a_gated_repository_is_named(hub: FakeHub, into: Path) -> None:
    hub.fail_next("hub", 403, X_Error_Code="GatedRepo", X_Error_Message="you are not in its list")
    error = failure(hub, into, token="hf_some")
    assert error.details["kind"] == "unauthorized"
    assert "you are not in its list" in error.message
    assert "accept its terms" in error.message


@pytest.mark.parametrize(
    ("change", "named"),
    [({"revision": "b" * 40}, "no such revision"), ({"path": "gone"}, "no gone in owner/name")],
)
def test_what_the_hub_does_not_have_is_named(
    hub: FakeHub, into: Path, change: dict[str, str], named: str
) -> None:
    error = failure(hub, into, replace(BASE, **change))
    assert error.details["kind"] == "not_found"
    assert named in error.message


def test_another_file_at_the_locked_commit_is_not_fetched(hub: FakeHub, into: Path) -> None:
    error = failure(hub, into, replace(BASE, sha256="f" * 64))
    assert error.details["kind"] == "other_file"
    assert BASE.sha256 in error.message
    assert "f" * 64 in error.message
    assert hub.gets(BASE) == []


def test_every_refusal_is_named_before_any_byte_is_fetched(hub: FakeHub, into: Path) -> None:
    gone = [replace(model, path=f"gone/{model.file}") for model, _ in SMALL]
    error = failure(hub, into, BASE, *gone)
    assert all(model.place in error.message for model in gone)
    assert all(request.side == "hub" for request in hub.requests)
    assert not into.exists()


@pytest.mark.parametrize("side", ["hub", "cdn"])
def test_the_hubs_wait_is_kept(hub: FakeHub, into: Path, side: str) -> None:
    hub.fail_next(side, 429, Retry_After="1")  # type: ignore[arg-type]
    started = time.monotonic()
    lines = fetch(hub, into)
    assert time.monotonic() - started >= 1
    assert any("it asks to wait 1 s" in line for line in lines)
    assert place_of(into).read_bytes() == WEIGHTS


def test_a_wait_that_is_too_long_is_refused_at_once(hub: FakeHub, into: Path) -> None:
    hub.fail_next("hub", 429, Retry_After="3600")
    error = failure(hub, into)
    assert error.details["kind"] == "rate_limited"
    assert "wait 3600 s" in error.message


def test_a_hub_that_always_refuses_more_requests_ends_it(hub: FakeHub, into: Path) -> None:
    hub.fail_next("hub", 429, times=10)
    assert failure(hub, into).details["kind"] == "rate_limited"
    assert len(hub.requests) == QUICK.tries


def test_a_hub_that_is_not_there_ends_it(hub: FakeHub, into: Path) -> None:
    with FakeHub() as gone:
        pass
    error = failure(gone, into)
    assert error.details["kind"] == "unreachable"
    assert gone.url in error.message


def test_a_fault_of_the_hubs_own_is_tried_again(hub: FakeHub, into: Path) -> None:
    hub.fail_next("hub", 503)
    hub.fail_next("cdn", 502)
    fetch(hub, into)
    assert place_of(into).read_bytes() == WEIGHTS


# The connection breaks


def test_a_break_is_resumed_where_it_was(hub: FakeHub, into: Path) -> None:
    hub.break_off(BASE, MB, MB, how="end")
    fetch(hub, into)
    assert place_of(into).read_bytes() == WEIGHTS
    assert [get.range for get in hub.gets(BASE)] == [None, f"bytes={MB}-", f"bytes={2 * MB}-"]


def test_a_reset_is_resumed_too(hub: FakeHub, into: Path) -> None:
    hub.break_off(BASE, MB, 100, 10)
    fetch(hub, into)
    assert place_of(into).read_bytes() == WEIGHTS
    assert all(get.range for get in hub.gets(BASE)[1:])


def test_breaks_without_end_are_no_fault_while_bytes_come(hub: FakeHub, into: Path) -> None:
    hub.break_off(BASE, *[250_000] * 11, how="end")
    fetch(hub, into)
    assert place_of(into).read_bytes() == WEIGHTS


def test_breaks_without_a_byte_end_it_and_the_rest_is_kept(hub: FakeHub, into: Path) -> None:
    hub.break_off(BASE, MB, 0, 0, 0, how="end")
    error = failure(hub, into)
    assert error.details["kind"] == "broken_off"
    assert "3 tries without a new byte" in error.message
    [part] = parts(into)
    assert part.read_bytes() == WEIGHTS[:MB]
    fetch(hub, into)
    assert hub.gets(BASE)[-1].range == f"bytes={MB}-"
    assert place_of(into).read_bytes() == WEIGHTS
    assert parts(into) == []


def test_a_server_without_ranges_is_read_from_the_start(hub: FakeHub, into: Path) -> None:
    hub.add(BASE, WEIGHTS, is_ranged=False)
    hub.break_off(BASE, MB, how="end")
    fetch(hub, into)
    assert place_of(into).read_bytes() == WEIGHTS


def test_after_one_files_fault_the_others_stop_and_are_resumed(hub: FakeHub, into: Path) -> None:
    broken, _ = SMALL[0]
    hub.add(BASE, WEIGHTS, stall_after=MB)
    hub.break_off(broken, 0, 0, 0, how="end")
    threading.Timer(1, hub.released.set).start()
    assert failure(hub, into, BASE, broken).details["file"] == broken.file
    assert not place_of(into).exists()
    fetch(hub, into, BASE, broken)
    assert int(str(hub.gets(BASE)[-1].range).strip("bytes=-")) >= MB


# Wrong bytes


@pytest.mark.parametrize(
    "content", [WEIGHTS[:-1] + b"x", WEIGHTS + b"more"], ids=["wrong", "too many"]
)
def test_wrong_bytes_never_get_the_files_name(hub: FakeHub, into: Path, content: bytes) -> None:
    hub.add(BASE, content)
    error = failure(hub, into)
    assert error.details["kind"] == "wrong_bytes"
    assert BASE.sha256 in error.message
    assert not place_of(into).exists()
    assert parts(into) == []


def test_both_digests_of_wrong_bytes_are_named(hub: FakeHub, into: Path) -> None:
    wrong = WEIGHTS[:-1] + b"x"
    hub.add(BASE, wrong)
    assert hashlib.sha256(wrong).hexdigest() in failure(hub, into).message


def test_a_right_file_stays_while_another_is_refused(hub: FakeHub, into: Path) -> None:
    fetch(hub, into)
    model, content = SMALL[0]
    hub.add(model, content[:-1] + b"x")
    failure(hub, into, BASE, model)
    assert place_of(into).read_bytes() == WEIGHTS


# What an earlier process left


def test_what_a_dead_process_left_is_not_asked_for_again(hub: FakeHub, into: Path) -> None:
    write_part(into, WEIGHTS[:MB])
    fetch(hub, into)
    assert [get.range for get in hub.gets(BASE)] == [f"bytes={MB}-"]
    assert place_of(into).read_bytes() == WEIGHTS


def test_a_whole_part_is_hashed_and_nothing_is_asked_for(hub: FakeHub, into: Path) -> None:
    write_part(into, WEIGHTS)
    fetch(hub, into)
    assert hub.gets(BASE) == []
    assert place_of(into).read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    "left", [b"x" * MB, b"x" * len(WEIGHTS), WEIGHTS + b"more"], ids=["part", "whole", "too long"]
)
def test_a_part_that_is_wrong_is_fetched_from_the_start(
    hub: FakeHub, into: Path, left: bytes
) -> None:
    write_part(into, left)
    fetch(hub, into)
    assert hub.gets(BASE)[-1].range is None
    assert place_of(into).read_bytes() == WEIGHTS
    assert parts(into) == []


def test_another_machines_part_is_left_alone_until_it_is_stale(hub: FakeHub, into: Path) -> None:
    """Locks may not reach from one machine to another: only the age of its bytes tells."""
    write_part(into, WEIGHTS[:MB], "elsewhere")
    started = time.monotonic()
    lines = fetch(hub, into)
    assert time.monotonic() - started >= QUICK.stale_s
    assert any("another process is at it" in line for line in lines)
    assert [get.range for get in hub.gets(BASE)] == [f"bytes={MB}-"]


def test_a_stale_part_of_another_machine_is_gone_on_with_at_once(hub: FakeHub, into: Path) -> None:
    write_part(into, WEIGHTS[:MB], "elsewhere", age_s=60)
    lines = fetch(hub, into)
    assert not any("another process" in line for line in lines)
    assert [get.range for get in hub.gets(BASE)] == [f"bytes={MB}-"]


def test_a_file_that_another_machine_brings_meanwhile_is_taken(hub: FakeHub, into: Path) -> None:
    theirs = write_part(into, WEIGHTS, "elsewhere")
    patience = replace(QUICK, stale_s=30)
    threading.Timer(0.3, lambda: theirs.rename(place_of(into))).start()
    lines = fetch(hub, into, patience=patience)
    assert lines[-1] == "unet/u.safetensors: is there; its SHA-256 is looked at"
    assert hub.gets(BASE) == []


def test_a_wait_for_another_process_has_an_end(hub: FakeHub, into: Path) -> None:
    write_part(into, WEIGHTS[:MB], "elsewhere")
    error = failure(hub, into, patience=replace(QUICK, stale_s=60, turn_s=0.2))
    assert error.details["kind"] == "waited"


def test_stale_parts_of_other_versions_are_removed(hub: FakeHub, into: Path) -> None:
    other = replace(BASE, sha256="f" * 64)
    paths = [into / "unet" / part_name(other, name) for name in ("old", "new")]
    paths[0].parent.mkdir(parents=True)
    for path, age in zip(paths, (60, 0), strict=True):
        path.write_bytes(b"x")
        os.utime(path, (time.time() - age,) * 2)
    fetch(hub, into)
    assert parts(into) == [paths[1]]


def test_a_part_that_is_taken_away_is_not_put_in_place(hub: FakeHub, into: Path) -> None:
    """Where locks don't hold, another may take over what we write: then theirs is the file."""
    hub.add(BASE, WEIGHTS, stall_after=MB)
    stolen = into / BASE.folder / part_name(BASE, "thief")

    def steal() -> None:
        hub.stalled.wait(10)
        parts(into)[0].rename(stolen)
        hub.released.set()

    threading.Thread(target=steal).start()
    lines = fetch(hub, into, patience=replace(QUICK, stale_s=1))
    assert any("another process is at it" in line for line in lines)
    assert place_of(into).read_bytes() == WEIGHTS
    assert parts(into) == []


# The disk


def test_too_little_space_is_named_before_anything_is_asked_for(hub: FakeHub, into: Path) -> None:
    error = failure(hub, into, free_bytes=BASE.bytes)
    assert error.details["kind"] == "disk_full"
    assert error.details["needed_bytes"] == BASE.bytes
    assert f"{BASE.bytes:,}" in error.message
    assert hub.requests == []


def test_only_what_is_missing_needs_space(hub: FakeHub, into: Path) -> None:
    spare = 64 * 1024 * 1024
    write_part(into, WEIGHTS[:-10])
    fetch(hub, into, free_bytes=spare + 10)
    fetch(hub, into, free_bytes=0)


def test_a_full_disk_is_named_and_the_rest_is_kept(hub: FakeHub, tmp_path: Path) -> None:
    ran = run_script(hub, tmp_path, BASE, prefix=["prlimit", f"--fsize={MB}"])
    assert ran.returncode == 1
    assert "is full" in ran.stderr
    assert "make room" in ran.stderr
    assert "Traceback" not in ran.stderr
    [part] = parts(tmp_path / "models")
    assert part.read_bytes() == WEIGHTS[:MB]


def test_a_folder_that_can_not_be_written_is_named(hub: FakeHub) -> None:
    error = failure(hub, Path("/proc/models"))
    assert error.details["kind"] == "not_writable"
    assert "/proc/models/unet can't be written" in error.message


def test_a_complete_read_only_folder_is_enough(hub: FakeHub, into: Path) -> None:
    place_of(into).parent.mkdir(parents=True)
    place_of(into).write_bytes(WEIGHTS)
    if subprocess.run(["mount", "--bind", into, into], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets no one mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", into], check=True)
        with pytest.raises(OSError, match="Read-only"):
            (into / "probe").touch()
        fetch(hub, into)
        model, _ = SMALL[0]
        assert failure(hub, into, BASE, model).details["kind"] == "not_writable"
    finally:
        subprocess.run(["umount", into], check=True)
    assert [path.name for path in into.rglob("*")] == ["unet", "u.safetensors"]


# The command, in processes of its own


def script(hub: FakeHub, tmp_path: Path, *models: ModelFile) -> list[str | Path]:
    lock = write_lock(tmp_path / "models.lock", *models)
    return [sys.executable, ROOT / "scripts" / "fetch_models.py", "--into", tmp_path / "models",
            "--lock", lock]  # fmt: skip


def script_env(hub: FakeHub, **more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "HF_ENDPOINT": hub.url, **more}


def run_script(
    hub: FakeHub,
    tmp_path: Path,
    *models: ModelFile,
    prefix: Sequence[str] = (),
    **env: str,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, *script(hub, tmp_path, *models)], env=script_env(hub, **env),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def start_script(hub: FakeHub, tmp_path: Path, *models: ModelFile) -> subprocess.Popen[str]:
    # Tests that run in the background of a shell hand down SIGINT as ignored.
    return subprocess.Popen(
        ["env", "--default-signal=INT", *script(hub, tmp_path, *models)], env=script_env(hub),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_the_command_fetches_and_says_so(hub: FakeHub, tmp_path: Path) -> None:
    hub.token = "hf_secret"
    models = [BASE, SMALL[0][0]]
    ran = run_script(hub, tmp_path, *models, HF_TOKEN="hf_secret", HF_ENDPOINT=f"{hub.url}/")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines()[-1].startswith("2 model files of profile test are in ")
    assert place_of(tmp_path / "models").read_bytes() == WEIGHTS
    assert "hf_secret" not in ran.stdout
    # Nothing is told of the machine, nor asked beside the files.
    asked = [request.path for request in hub.requests if request.side == "hub"]
    assert all("/resolve/" in path for path in asked)


def test_the_command_fails_with_one_line(hub: FakeHub, tmp_path: Path) -> None:
    hub.token = "hf_secret"
    ran = run_script(hub, tmp_path, BASE, HF_TOKEN="")
    assert ran.returncode == 1
    assert ran.stderr.startswith("unet/u.safetensors: the hub refuses owner/name")
    assert ran.stderr.count("\n") == 1


def test_offline_mode_is_named(hub: FakeHub, tmp_path: Path) -> None:
    ran = run_script(hub, tmp_path, BASE, HF_HUB_OFFLINE="1")
    assert ran.returncode == 1
    assert "HF_HUB_OFFLINE is set" in ran.stderr


def wait_for_part(into: Path, size: int) -> Path:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if found := [path for path in parts(into) if path.stat().st_size >= size]:
            return found[0]
        time.sleep(0.01)
    raise TimeoutError(f"no part of {size} bytes in {into}")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_fetch_is_gone_on_with(
    hub: FakeHub, tmp_path: Path, number: signal.Signals
) -> None:
    hub.add(BASE, WEIGHTS, stall_after=MB)
    process = start_script(hub, tmp_path, BASE)
    part = wait_for_part(tmp_path / "models", MB - 70_000)
    process.send_signal(number)
    # Ctrl-C is for the main thread to see, before the one that fetches gets its next byte.
    time.sleep(0.5)
    hub.released.set()
    output, _ = process.communicate(timeout=30)
    assert process.returncode != 0, output
    assert not place_of(tmp_path / "models").exists()
    there = part.stat().st_size
    assert there > 0

    hub.add(BASE, WEIGHTS)
    assert run_script(hub, tmp_path, BASE).returncode == 0
    assert hub.gets(BASE)[-1].range == f"bytes={there}-"
    assert place_of(tmp_path / "models").read_bytes() == WEIGHTS
    assert parts(tmp_path / "models") == []


def test_of_two_processes_one_fetches_and_the_other_waits(hub: FakeHub, tmp_path: Path) -> None:
    hub.add(BASE, WEIGHTS, stall_after=MB)
    with start_script(hub, tmp_path, BASE) as first:
        assert hub.stalled.wait(20)
        with start_script(hub, tmp_path, BASE) as second:
            assert second.stdout is not None
            line = second.stdout.readline()
            assert "another process is at it" in line
            hub.released.set()
            said, _ = second.communicate(timeout=30)
        first.communicate(timeout=30)
    assert (first.returncode, second.returncode) == (0, 0), said
    assert len(hub.gets(BASE)) == 1
    assert place_of(tmp_path / "models").read_bytes() == WEIGHTS


def test_when_the_one_that_fetches_dies_the_other_goes_on(hub: FakeHub, tmp_path: Path) -> None:
    hub.add(BASE, WEIGHTS, stall_after=MB)
    with start_script(hub, tmp_path, BASE) as first:
        part = wait_for_part(tmp_path / "models", MB - 70_000)
        with start_script(hub, tmp_path, BASE) as second:
            assert second.stdout is not None
            second.stdout.readline()
            first.kill()
            first.communicate(timeout=30)
            there = part.stat().st_size
            hub.add(BASE, WEIGHTS)
            said, _ = second.communicate(timeout=30)
    assert second.returncode == 0, said
    assert hub.gets(BASE)[-1].range == f"bytes={there}-"
    assert place_of(tmp_path / "models").read_bytes() == WEIGHTS


def test_many_at_once_all_end_well(hub: FakeHub, tmp_path: Path) -> None:
    models = [BASE, *(model for model, _ in SMALL)]
    processes = [start_script(hub, tmp_path, *models) for _ in range(4)]
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, said
    assert [len(hub.gets(model)) for model in models] == [1] * 4
    assert parts(tmp_path / "models") == []


# At boot


def test_at_boot_only_what_is_nowhere_is_fetched(hub: FakeHub, tmp_path: Path) -> None:
    baked, volume = tmp_path / "baked", tmp_path / "volume"
    volume.mkdir()
    (clip, content), (vae, _), _ = SMALL
    (baked / "text_encoders").mkdir(parents=True)
    (baked / "text_encoders" / clip.file).write_bytes(content)
    lock = ModelsLock("test", (clip, vae))
    places, into = search_places(baked, volume), fetch_target(baked, volume)
    found = find_or_fetch(lock, places, into, Hub(hub.url), lambda _: None)
    assert [at.path for at in found] == [
        baked / "text_encoders" / clip.file, volume / "models" / "vae" / vae.file,
    ]  # fmt: skip
    assert hub.gets(clip) == []


def test_at_boot_a_broken_file_is_replaced_where_we_may_write_only(
    hub: FakeHub, tmp_path: Path
) -> None:
    baked, volume = tmp_path / "baked", tmp_path / "volume"
    (clip, _), (vae, content), _ = SMALL
    for path in (baked / "clip" / clip.file, volume / "models" / "vae" / vae.file):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    lock = ModelsLock("test", (clip, vae))
    found = find_or_fetch(
        lock, search_places(baked, volume), volume / "models", Hub(hub.url), lambda _: None
    )
    assert found[0].path.read_bytes().startswith(b"version")
    assert hub.gets(clip) == []
    assert found[1].path.read_bytes() == content


def test_without_a_volume_the_models_folder_is_fetched_into(tmp_path: Path) -> None:
    assert fetch_target(tmp_path / "models", tmp_path / "none") == tmp_path / "models"


def test_at_boot_a_file_that_was_fetched_elsewhere_is_missing(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(ModelMissing):
        find_or_fetch(
            ModelsLock("test", (BASE,)), search_places(tmp_path / "a", tmp_path / "b"),
            tmp_path / "c", Hub(hub.url), lambda _: None,
        )  # fmt: skip


# Locking anew


def lock_models(hub: FakeHub, lock: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "lock_models.py", "--lock", lock, *options],
        env=script_env(hub), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_file_that_changed_on_the_hub_is_locked_anew(hub: FakeHub, tmp_path: Path) -> None:
    lock = write_lock(tmp_path / "models.lock", BASE, SMALL[0][0])
    new = safetensors(b"new weights" * 10_000)
    changed = replace(model_of(new, "unet", BASE.file, revision="b" * 40), path=BASE.path)
    hub.add(changed, new)
    ran = lock_models(hub, lock)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert f"unet/u.safetensors: other bytes: {len(new):,}, sha256 {changed.sha256}" in ran.stdout
    digest = sample_digest(new[start : start + length] for start, length in sample_spans(len(new)))
    base, small = read_models_lock(lock).models
    assert base == replace(changed, sample_sha256=digest)
    assert replace(small, sample_sha256=None) == SMALL[0][0]
    assert small.sample_sha256
    assert lock.read_text().count("# a comment that stays") == 2


def test_locking_twice_changes_nothing(hub: FakeHub, tmp_path: Path) -> None:
    lock = write_lock(tmp_path / "models.lock", BASE, SMALL[0][0])
    lock_models(hub, lock)
    first = lock.read_text()
    assert "unet/u.safetensors: unchanged\n" in lock_models(hub, lock).stdout
    assert lock.read_text() == first


def test_only_the_named_profile_is_locked_anew(hub: FakeHub, tmp_path: Path) -> None:
    lock = tmp_path / "models.lock"
    shutil.copy(ROOT / "models.lock", lock)
    before = {name: read_models_lock(lock, name).models for name in ("default", "calibrated")}
    for model in before["calibrated"]:
        content = safetensors(model.file.encode() * 100)
        sizes = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        hub.add(replace(model, revision="c" * 40, **sizes), content)  # type: ignore[arg-type]
    assert lock_models(hub, lock, "--profile", "calibrated").returncode == 0
    assert {model.revision for model in read_models_lock(lock, "calibrated").models} == {"c" * 40}
    base = read_models_lock(lock).models[0]
    assert base == before["default"][0]


def test_a_lock_stays_as_it_was_when_the_hub_lacks_a_file(hub: FakeHub, tmp_path: Path) -> None:
    gone = replace(BASE, path="gone.safetensors")
    lock = write_lock(tmp_path / "models.lock", SMALL[0][0], gone)
    before = lock.read_text()
    ran = lock_models(hub, lock)
    assert ran.returncode == 1
    assert "owner/name has no large file gone.safetensors at main" in ran.stderr
    assert lock.read_text() == before
    assert list(tmp_path.iterdir()) == [lock]


def test_a_lock_stays_as_it_was_when_the_hub_refuses(hub: FakeHub, tmp_path: Path) -> None:
    hub.token = "hf_secret"
    lock = write_lock(tmp_path / "models.lock", BASE)
    before = lock.read_text()
    ran = lock_models(hub, lock)
    assert (ran.returncode, lock.read_text()) == (1, before)
    assert "Traceback" not in ran.stderr
