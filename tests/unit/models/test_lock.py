import json
from pathlib import Path
from typing import Any

import pytest

from handler.errors import InvalidModelsLock
from handler.models.lock import read_models_lock
from tests.fakes.weights import model_of
from tests.fakes.weights import write_lock as write_whole_lock

PROJECT_DIR = Path(__file__).resolve().parents[3]


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
