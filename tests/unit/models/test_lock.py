import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handler.errors import InvalidModelsLock, ModelCorrupt
from handler.models.lock import (
    ModelFile,
    check_model,
    hash_model,
    read_models_lock,
    sample_digest,
    sample_spans,
)
from tests.fakes.weights import model_of
from tests.fakes.weights import write_lock as write_whole_lock

PROJECT_DIR = Path(__file__).resolve().parents[3]


def safetensors(data: bytes = b"\x01\x02\x03\x04" * 1000, **header: Any) -> bytes:
    tensors = {"w": {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}}
    text = json.dumps({"__metadata__": {"format": "pt"}, **tensors, **header}).encode()
    return len(text).to_bytes(8, "little") + text + data


WEIGHTS = safetensors()


def model(folder: str = "vae", file: str = "a.safetensors", content: bytes = WEIGHTS) -> ModelFile:
    return ModelFile(
        folder=folder,
        file=file,
        repo="owner/name",
        revision="0" * 40,
        path=f"split_files/{file}",
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        licence="apache-2.0",
    )


def table(**change: Any) -> str:
    """One [[model]] table; a value of None leaves the key out."""
    entry = {
        "folder": "vae",
        "file": "a.safetensors",
        "repo": "owner/name",
        "revision": "0" * 40,
        "path": "split_files/a.safetensors",
        "bytes": 5,
        "sha256": "f" * 64,
        "licence": "apache-2.0",
    } | change
    lines = [f"{key} = {json.dumps(value)}" for key, value in entry.items() if value is not None]
    return "\n".join(["[[model]]", *lines, ""])


def write_lock(folder: Path, *tables: str, head: str = 'profile = "test"\n') -> Path:
    path = folder / "models.lock"
    path.write_text(head + "".join(tables))
    return path


def faults_of(path: Path) -> list[str]:
    with pytest.raises(InvalidModelsLock) as caught:
        read_models_lock(path)
    assert caught.value.message.startswith(f"{path}: ")
    faults: list[str] = caught.value.details["faults"]
    assert all(fault in caught.value.message for fault in faults)
    return faults


# The shipped lock


def test_the_shipped_lock_names_the_four_weights() -> None:
    lock = read_models_lock(PROJECT_DIR / "models.lock")
    assert lock.profile == "default"
    assert [model.folder for model in lock.models] == ["unet", "clip", "vae", "loras"]
    assert lock.total_bytes == 30_918_783_646
    assert {model.licence for model in lock.models} == {"apache-2.0"}
    assert all(model.path.endswith(f"/{model.file}") for model in lock.models)


def test_the_calibrated_profile_replaces_the_base_only() -> None:
    path = PROJECT_DIR / "models.lock"
    default, other = read_models_lock(path), read_models_lock(path, "calibrated")
    assert other.profile == "calibrated"
    [base] = set(other.models) - set(default.models)
    assert (base.folder, base.bytes) == ("unet", 20_436_302_974)
    assert set(default.models) - set(other.models) == {default.models[0]}


# Reading


def test_a_lock_is_read_whole(tmp_path: Path) -> None:
    lock = read_models_lock(write_lock(tmp_path, table(), table(folder="loras", bytes=7)))
    assert [(model.folder, model.bytes) for model in lock.models] == [("vae", 5), ("loras", 7)]
    assert lock.total_bytes == 12


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"sha": "x"}, "unknown key 'sha'"),
        ({"license": "x"}, "unknown key 'license'; did you mean 'licence'?"),
        ({"repo": None}, "'repo' is missing"),
        ({"bytes": "5"}, "'bytes' must be an integer"),
        ({"bytes": True}, "'bytes' must be an integer"),
        ({"bytes": 5.0}, "'bytes' must be an integer"),
        ({"bytes": 0}, "'bytes' must be more than 0, not 0"),
        ({"folder": 1}, "'folder' must be a string"),
        ({"folder": ".."}, "'folder' must be one plain folder name, not '..'"),
        ({"folder": "vae/sub"}, "'folder' must be one plain"),
        ({"folder": ""}, "'folder' must be one plain"),
        ({"file": "../a.safetensors"}, "'file' must be a plain file name"),
        ({"file": "/a.safetensors"}, "'file' must be a plain file name"),
        ({"file": "sub\\a.safetensors"}, "'file' must be a plain file name"),
        ({"file": "a.safetensors\n"}, "'file' must be a plain file name"),
        ({"file": "a.ckpt"}, "ends in .safetensors"),
        ({"path": "../a.safetensors"}, "'path' must be a relative path"),
        ({"path": "/a.safetensors"}, "'path' must be a relative path"),
        ({"path": "x/../../a"}, "'path' must be a relative path"),
        ({"path": "x\\a"}, "'path' must be a relative path"),
        ({"repo": "name"}, "'repo' must be owner/name"),
        ({"repo": "../.."}, "'repo' must be owner/name"),
        ({"revision": "main"}, "'revision' must be a commit of 40 hex digits"),
        ({"sha256": "F" * 64}, "'sha256' must be 64 lower-case hex digits"),
        ({"sha256": "f" * 63}, "'sha256' must be 64 lower-case hex digits"),
        ({"licence": " "}, "'licence' must be a licence's name"),
        ({"sample_sha256": "f"}, "'sample_sha256' must be 64 lower-case hex digits"),
        ({"profiles": "default"}, "'profiles' must be a list"),
        ({"profiles": []}, "'profiles' must list profiles"),
        ({"profiles": ["a", 1]}, "'profiles' must list profiles"),
        ({"profiles": ["../x"]}, "'profiles' must list profiles"),
        ({"profile": ["a"]}, "unknown key 'profile'; did you mean 'profiles'?"),
    ],
)
def test_a_fault_is_named_with_its_entry(
    tmp_path: Path, change: dict[str, Any], fault: str
) -> None:
    first = table(file="b.safetensors")
    [only] = faults_of(write_lock(tmp_path, first, table(**change)))
    assert only.startswith("model 2")
    assert fault in only


def test_the_entry_is_named_by_its_file_too(tmp_path: Path) -> None:
    [fault] = faults_of(write_lock(tmp_path, table(bytes=-1)))
    assert fault == "model 1 (a.safetensors): 'bytes' must be more than 0, not -1"


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    path = write_lock(
        tmp_path, table(bytes=0, sha256="x"), table(repo=None), head='profil = "test"\n'
    )
    assert len(faults_of(path)) == 5


@pytest.mark.parametrize("folder", ["clip", "text_encoders"])
def test_one_file_listed_twice_is_refused_in_either_spelling(tmp_path: Path, folder: str) -> None:
    [fault] = faults_of(write_lock(tmp_path, table(folder="clip"), table(folder=folder)))
    assert fault == "model 2 (a.safetensors): the same file as model 1"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "`profile` must be a name"),
        ("", "at least one [[model]]"),
        ("profile = 1\n" + table(), "`profile` must be a name"),
        ('profile = "a"\nmodel = []\n', "at least one [[model]]"),
        ('profile = "a"\nmodel = [1]\n', "model 1: it must be a [[model]] table"),
        ('profile = "a"\n[model]\nfile = "x"\n', "at least one [[model]]"),
        ('profile = "a"\nversion = 2\n' + table(), "unknown key 'version'"),
        ('profile = "a\n', "it is not TOML"),
    ],
)
def test_a_fault_outside_the_entries_is_named(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "models.lock"
    path.write_text(text)
    assert any(fault in found for found in faults_of(path))


def test_a_toml_fault_says_where(tmp_path: Path) -> None:
    [fault] = faults_of(write_lock(tmp_path, "[[model]\n"))
    assert "line 2" in fault


def test_a_lock_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    assert faults_of(tmp_path / "none.lock") == ["it can't be read: No such file or directory"]
    assert faults_of(tmp_path) == ["it can't be read: Is a directory"]
    (tmp_path / "models.lock").write_bytes(b'profile = "\xff"')
    assert faults_of(tmp_path / "models.lock") == ["it is not UTF-8 (byte 11)"]


# Profiles


def files_of(path: Path, profile: str | None = None) -> list[str]:
    return [model.file for model in read_models_lock(path, profile).models]


def test_a_profile_has_its_own_models_and_those_of_no_profile(tmp_path: Path) -> None:
    path = write_lock(
        tmp_path,
        table(file="all.safetensors"),
        table(file="a.safetensors", profiles=["test"]),
        table(file="b.safetensors", profiles=["other"]),
        table(file="c.safetensors", profiles=["other", "test"]),
    )
    default = ["all.safetensors", "a.safetensors", "c.safetensors"]
    assert files_of(path) == files_of(path, "test") == default
    assert files_of(path, "other") == ["all.safetensors", "b.safetensors", "c.safetensors"]


def test_an_unknown_profile_is_named_with_those_there_are(tmp_path: Path) -> None:
    path = write_lock(tmp_path, table(profiles=["test", "other"]))
    with pytest.raises(InvalidModelsLock, match="no profile 'tset'; it has test, other"):
        read_models_lock(path, "tset")


def test_a_profile_without_a_model_is_refused(tmp_path: Path) -> None:
    assert faults_of(write_lock(tmp_path, table(profiles=["other"]))) == [
        "no model belongs to the profile 'test'"
    ]


def test_one_place_may_hold_other_files_in_other_profiles(tmp_path: Path) -> None:
    path = write_lock(
        tmp_path, table(bytes=1, profiles=["test"]), table(bytes=2, profiles=["other"])
    )
    assert [model.bytes for model in read_models_lock(path, "other").models] == [2]
    [fault] = faults_of(write_lock(tmp_path, table(), table(profiles=["other"])))
    assert fault == "model 2 (a.safetensors): the same file as model 1"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def place(root: Path, folder: str, file: str = "a.safetensors", content: bytes = WEIGHTS) -> Path:
    path = root / folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# Checking


def corrupt_of(locked: ModelFile, path: Path, kind: str) -> ModelCorrupt:
    with pytest.raises(ModelCorrupt) as caught:
        check_model(locked, path)
    error = caught.value
    assert error.details["kind"] == kind
    assert error.message.startswith(f"{path}: ")
    return error


def test_a_right_file_passes(tmp_path: Path) -> None:
    check_model(model(), place(tmp_path, "vae"))


def test_a_file_of_20_gb_is_checked_without_reading_it(tmp_path: Path) -> None:
    size = 20_430_698_424
    # Padded with spaces to 92 bytes, as safetensors pads, so that 100 come before the data.
    text = json.dumps({"w": {"data_offsets": [0, size - 100]}}).encode().ljust(92)
    header = len(text).to_bytes(8, "little") + text
    path = place(tmp_path, "unet", content=header)
    os.truncate(path, size)
    started = time.monotonic()
    check_model(replace(model("unet"), bytes=size), path)
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("cut", [9, 30, 200, len(WEIGHTS) // 2, len(WEIGHTS) - 1])
def test_a_truncated_file_is_named_as_such(tmp_path: Path, cut: int) -> None:
    error = corrupt_of(model(), place(tmp_path, "vae", content=WEIGHTS[:cut]), "truncated")
    assert f"it is cut off: {cut:,} of {len(WEIGHTS):,} bytes" in error.message
    assert "fetch it again" in error.message


def test_a_git_lfs_pointer_is_named_as_such(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 5\n" % (b"f" * 64)
    error = corrupt_of(model(), place(tmp_path, "vae", content=pointer), "git_lfs_pointer")
    assert "git lfs pull" in error.message


@pytest.mark.parametrize(
    "page",
    [b"<!DOCTYPE html><html>Sign in</html>", b"\n  <HTML lang='en'>", b"\xef\xbb\xbf<html>"],
)
def test_a_web_page_is_named_as_such(tmp_path: Path, page: bytes) -> None:
    error = corrupt_of(model(), place(tmp_path, "vae", content=page), "html_page")
    assert "it is a web page" in error.message


def test_an_empty_file_is_named_as_such(tmp_path: Path) -> None:
    corrupt_of(model(), place(tmp_path, "vae", content=b""), "empty")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"PK\x03\x04 a zip, as torch.save writes", "does not begin with a header"),
        (b'{"error": "not found"}', "does not begin with a header"),
        (b"abc", "does not begin with a header"),
        (bytes(4096), "begins with zeros"),
        ((5).to_bytes(8, "little") + b"{nope", "its header is damaged"),
        ((5).to_bytes(8, "little") + b"{\xff\xff\xff}", "its header is damaged"),
        (safetensors(w={"dtype": "U8"}), "its header is damaged"),
        (safetensors(w={"data_offsets": [4, 2]}), "its header is damaged"),
        (safetensors(w={"data_offsets": "all"}), "its header is damaged"),
        (safetensors(w=3), "its header is damaged"),
        ((100_002).to_bytes(8, "little") + b"{" + b"[" * 100_001, "its header is damaged"),
        (WEIGHTS + b"more", "its header speaks of"),
    ],
)
def test_what_is_no_safetensors_file_is_named_as_such(
    tmp_path: Path, content: bytes, fault: str
) -> None:
    path = place(tmp_path, "vae", content=content)
    error = corrupt_of(replace(model(), bytes=len(content)), path, "not_safetensors")
    assert fault in error.message


def test_a_whole_file_of_another_size_is_another_file(tmp_path: Path) -> None:
    other = safetensors(b"other weights")
    error = corrupt_of(model(), place(tmp_path, "vae", content=other), "wrong_size")
    assert f"{len(other):,} bytes" in error.message
    assert f"{len(WEIGHTS):,}" in error.message
    assert error.details["actual_bytes"] == len(other)
    assert error.details["expected_bytes"] == len(WEIGHTS)


def test_a_file_that_can_not_be_read_is_named_as_such(tmp_path: Path) -> None:
    error = corrupt_of(model(), tmp_path / "gone.safetensors", "unreadable")
    assert "No such file" in error.message
    corrupt_of(model(), tmp_path, "unreadable")


@settings(deadline=None)  # a busy machine is no fault
@given(content=st.binary(max_size=300) | st.binary(max_size=60).map(lambda b: WEIGHTS[:40] + b))
def test_any_bytes_are_right_or_model_corrupt(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelCorrupt):
        check_model(model(), path)


@settings(deadline=None)  # a busy machine is no fault
@given(header=JSON)
def test_any_json_header_is_right_or_model_corrupt(
    tmp_path_factory: pytest.TempPathFactory, header: Any
) -> None:
    text = json.dumps(header).encode()
    path = tmp_path_factory.getbasetemp() / "header.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(ModelCorrupt):
        check_model(model(), path)


# Samples


@pytest.mark.parametrize("size", [1, 15, 4095, 4096, 4097, 100_000, 20_430_698_424])
def test_samples_reach_from_the_first_byte_to_the_last(size: int) -> None:
    spans = sample_spans(size)
    assert spans[0][0] == 0
    assert sum(spans[-1]) == size
    assert spans == sorted(spans)
    assert all(length == min(4096, size) for _, length in spans)


def sampled(content: bytes) -> ModelFile:
    spans = sample_spans(len(content))
    digest = sample_digest(content[start : start + length] for start, length in spans)
    return replace(model(content=content), sample_sha256=digest)


def test_a_sibling_of_the_same_size_and_structure_shows_in_its_samples(tmp_path: Path) -> None:
    ours, sibling = (safetensors(os.urandom(1024 * 1024)) for _ in range(2))
    assert len(ours) == len(sibling)
    check_model(sampled(ours), place(tmp_path, "vae", content=ours))
    error = corrupt_of(sampled(ours), place(tmp_path, "vae", content=sibling), "other_file")
    assert "a sibling under this name" in error.message


# Hashing


def test_a_right_file_hashes_with_its_progress(tmp_path: Path) -> None:
    content = safetensors(os.urandom(20 * 1024 * 1024))
    seen: list[int] = []
    hash_model(model(content=content), place(tmp_path, "vae", content=content), seen.append)
    assert seen == sorted(set(seen))
    assert seen[-1] == len(content)
    assert len(seen) >= 3


def test_wrong_bytes_of_the_right_size_show_in_the_hash_only(tmp_path: Path) -> None:
    damaged = WEIGHTS[:-1] + b"\xff"
    path = place(tmp_path, "vae", content=damaged)
    check_model(model(), path)
    with pytest.raises(ModelCorrupt) as caught:
        hash_model(model(), path, lambda _: None)
    assert caught.value.details["kind"] == "wrong_sha256"
    for digest in (hashlib.sha256(damaged).hexdigest(), model().sha256):
        assert digest in caught.value.message


def test_a_file_that_vanishes_before_the_hash_is_model_corrupt(tmp_path: Path) -> None:
    with pytest.raises(ModelCorrupt) as caught:
        hash_model(model(), tmp_path / "gone.safetensors", lambda _: None)
    assert caught.value.details["kind"] == "unreadable"


# The command, in a folder that can't be written to


@pytest.fixture
def read_only_models(tmp_path: Path) -> Iterator[Path]:
    models = tmp_path / "models"
    place(models, "vae")
    place(models, "diffusion_models", "u.safetensors")
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


def entry_of(locked: ModelFile) -> str:
    return table(folder=locked.folder, file=locked.file, bytes=locked.bytes, sha256=locked.sha256)


def test_verify_passes_on_right_files_and_writes_nothing(
    tmp_path: Path, read_only_models: Path
) -> None:
    lock = write_lock(tmp_path, entry_of(model()), entry_of(model("unet", "u.safetensors")))
    before = sorted(read_only_models.rglob("*"))
    ran = verify(read_only_models, lock)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert f"vae/a.safetensors  {len(WEIGHTS):,} of {len(WEIGHTS):,} bytes  100 %" in ran.stdout
    assert ran.stdout.endswith("2 of 2 model files are right\n")
    assert sorted(read_only_models.rglob("*")) == before


def test_verify_lists_every_fault(tmp_path: Path, read_only_models: Path) -> None:
    lock = write_lock(
        tmp_path,
        entry_of(model("loras", "gone.safetensors")),
        entry_of(replace(model(), sha256="0" * 64)),
        entry_of(replace(model("unet", "u.safetensors"), bytes=5)),
        entry_of(model("clip", "gone-too.safetensors")),
    )
    ran = verify(read_only_models, lock)
    assert ran.returncode == 1
    assert ran.stderr.count("FAULT ") == 4
    for named in ("gone.safetensors", "gone-too.safetensors", "0" * 64, "the locked one has 5"):
        assert named in ran.stderr
    assert ran.stdout.endswith("0 of 4 model files are right\n")


def test_verify_names_a_bad_lock(tmp_path: Path) -> None:
    ran = verify(tmp_path, write_lock(tmp_path, table(bytes=0)))
    assert ran.returncode == 1
    assert ran.stderr.startswith(str(tmp_path / "models.lock"))
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("role", ["unet", "clip", "vae", "lightning"])
def test_a_role_is_read(tmp_path: Path, role: str) -> None:
    path = write_whole_lock(tmp_path / "models.lock", model_of(b"x"))
    path.write_text(path.read_text().replace("[[model]]", f'[[model]]\nrole = "{role}"', 1))
    [model] = read_models_lock(path).models
    assert model.role == role


def test_an_unknown_role_and_one_that_two_files_have_are_refused(tmp_path: Path) -> None:
    models = [model_of(b"x", file=f"{name}.safetensors") for name in "ab"]
    path = write_whole_lock(tmp_path / "models.lock", *models)
    text = path.read_text()
    path.write_text(text.replace("[[model]]", '[[model]]\nrole = "lora"'))
    with pytest.raises(InvalidModelsLock, match=r"'role' must be one of unet, clip"):
        read_models_lock(path)
    path.write_text(text.replace("[[model]]", '[[model]]\nrole = "vae"'))
    with pytest.raises(InvalidModelsLock, match="the same role as model 1: vae"):
        read_models_lock(path)
