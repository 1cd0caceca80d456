import base64
import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

MAKE_ENV = Path(__file__).resolve().parents[3] / "scripts" / "make_env.py"


def make_wheel(folder: Path, version: str) -> str:
    """A wheel of one module, `wool`, that knows its version; returns its line in a lock."""
    about = f"wool-{version}.dist-info"
    files = {
        "wool.py": f"version = {version!r}\n",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: wool\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {
        name: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        for name, text in files.items()
    }
    record = [f"{name},sha256={digest}," for name, digest in digests.items()]
    files[f"{about}/RECORD"] = "\n".join([*record, f"{about}/RECORD,,", ""])
    wheel = folder / f"wool-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return f"wool=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def make_env(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the script; pip finds the wheels of the folder and nothing else."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    env |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_CONFIG_FILE": os.devnull}
    return subprocess.run(
        [sys.executable, str(MAKE_ENV), str(folder / "env"), str(folder / "lock"), *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )


def installed_version(folder: Path) -> str:
    return subprocess.run(
        [str(folder / "env" / "bin" / "python"), "-c", "import wool; print(wool.version)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an environment of wool 1. Each environment costs seconds, so it is shared."""
    folder = tmp_path_factory.mktemp("make_env")
    (folder / "lock").write_text(make_wheel(folder, "1"))
    result = make_env(folder)
    assert result.returncode == 0, result.stderr
    return folder


def test_an_environment_is_made_as_the_lock_says(made: Path) -> None:
    assert f"wool=={installed_version(made)} " in (made / "lock").read_text()


def test_an_environment_that_is_as_the_lock_says_is_left_alone(made: Path) -> None:
    mark = made / "env" / "mark"
    mark.touch()
    result = make_env(made)
    assert (result.returncode, result.stdout) == (0, "")
    assert mark.exists()


def test_a_changed_lock_makes_the_environment_anew(made: Path) -> None:
    mark = made / "env" / "mark"
    mark.touch()
    (made / "lock").write_text(make_wheel(made, "2"))
    assert make_env(made).returncode == 0
    assert installed_version(made) == "2"
    assert not mark.exists()


def test_a_package_with_another_hash_is_refused_and_leaves_no_stamp(tmp_path: Path) -> None:
    make_wheel(tmp_path, "1")
    (tmp_path / "lock").write_text("wool==1 --hash=sha256:" + "0" * 64 + "\n")
    result = make_env(tmp_path)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("make_env: pip could not install")
    assert not (tmp_path / "env" / "installed.sha256").exists()


def test_a_full_disk_is_told_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    result = make_env(tmp_path, "--needs-gb", "1e9")
    assert result.returncode == 1
    assert "needs 1e+09 GB and" in result.stderr
    assert not (tmp_path / "env").exists()


def test_a_missing_lock_is_told_in_one_sentence(tmp_path: Path) -> None:
    result = make_env(tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("make_env: ")
    assert "No such file" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_place_that_can_not_be_written_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / "env").write_text("a file")
    result = make_env(tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("make_env: ")
    assert len(result.stderr.splitlines()) == 1
