"""The settings file of an endpoint."""

from pathlib import Path

import pytest

from gateway.deploy.errors import InvalidDeployFile
from gateway.deploy.wanted import Wanted, read_wanted
from gateway.settings import PROJECT_DIR

BASE = 'name = "edit"\nimage = "registry.example/edit:1.0.0"\n'


def read(tmp_path: Path, text: str) -> Wanted:
    path = tmp_path / "deploy.toml"
    path.write_text(text)
    return read_wanted(path)


def test_the_example_is_a_valid_file() -> None:
    wanted = read_wanted(PROJECT_DIR / "examples" / "deploy.toml")
    assert wanted.workers.min == 0
    assert wanted.least_cuda == "13.0"
    assert wanted.timeout_s > 600


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("registry.example/edit", "tag or a digest"),
        ("registry.example:5000/edit", "tag or a digest"),
        ("registry.example/edit:latest", "latest"),
    ],
)
def test_an_image_must_be_one_that_can_be_told_from_another(
    tmp_path: Path, image: str, said: str
) -> None:
    with pytest.raises(InvalidDeployFile, match=said):
        read(tmp_path, f'name = "edit"\nimage = "{image}"\n')


def test_a_digest_is_as_good_as_a_tag(tmp_path: Path) -> None:
    image = f"registry.example:5000/edit@sha256:{'0' * 64}"
    assert read(tmp_path, f'name = "edit"\nimage = "{image}"\n').image == image


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("worker = 3", "there is no 'worker'; did you mean 'workers'"),
        ("[workers]\nmaximum = 3", "there is no 'workers.maximum'; did you mean 'max'"),
        ("[workers]\nmin = 4\nmax = 3", "min \\(4\\) is more than max \\(3\\)"),
        ("timeout_s = 600", "timeout_s \\(600\\) must be at least 630"),
        ('[env]\nWORKER_JOB_TIMEOUT_S = "900"', "must be at least 930"),
        ('[env]\nWORKER_JOB_TIMEOUT_S = "long"', "is no number"),
        ('[env]\nA = "1"\n[secrets]\nA = "a"', "A stands in both"),
        ('[env]\n"A=B" = "1"', "env.A=B"),
        ("[env]\nA = 1", "valid string"),
        ('cuda = ["13.0"]\nleast_cuda = "13.0"', "exclude each other"),
        ('least_cuda = "13"', "must be as '13.0'"),
        ("name = 3", "no TOML"),
        ("least_gpu_gb = [", "no TOML"),
        ("[workers]\nidle_timeout_s = 0", "workers.idle_timeout_s"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, rest: str, said: str) -> None:
    with pytest.raises(InvalidDeployFile, match=said):
        read(tmp_path, BASE + rest)


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidDeployFile) as caught:
        read(tmp_path, 'image = "a"\nworker = 1\ndisk_gb = 0\n')
    for said in ("'name'", "tag or a digest", "'worker'", "'disk_gb'"):
        assert said in str(caught.value)


def test_a_file_that_is_not_there_says_where_to_take_one_from(tmp_path: Path) -> None:
    with pytest.raises(InvalidDeployFile, match=r"examples/deploy\.toml"):
        read_wanted(tmp_path / "deploy.toml")


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"a" * 1_000_001, b"\x00"])
def test_what_is_no_such_file_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "deploy.toml"
    path.write_bytes(data)
    with pytest.raises(InvalidDeployFile):
        read_wanted(path)
