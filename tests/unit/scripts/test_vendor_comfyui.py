"""The real script with the real pip and git, on a tree of a few files, and no network."""

import base64
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import pytest

from scripts.vendoring.lock import VendorError, read_lock
from scripts.vendoring.place import STAMP
from scripts.vendoring.sources import unpack_folder
from scripts.vendoring.tree import tree_digest, tree_files, tree_manifest

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "scripts" / "vendor_comfyui.py"
WHEEL = "tiny_engine-1.0-py3-none-any.whl"
INFO = "tiny_engine-1.0.dist-info"
FILES = {
    "main.py": b"print('hello')\n",
    "windows.bat": b"@echo off\r\n",
    "comfy/ops.py": b"x = 1\n",
    "models/put_models_here": b"",
    ".gitattributes": b"*.py text eol=crlf\nhidden.txt export-ignore\n",
    "hidden.txt": b"$Id$\n",
}
DEADLINE_S = 30.0


def manifest(files: Mapping[str, bytes]) -> dict[str, str]:
    return {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}


def digest_by_definition(files: Mapping[str, bytes]) -> str:
    lines = sorted(f"{sha256}  {path}\n" for path, sha256 in manifest(files).items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def write_wheel(folder: Path, files: Mapping[str, bytes], links: Mapping[str, str] = {}) -> Path:
    folder.mkdir(exist_ok=True)
    content = {f"engine/_comfyui/{path}": data for path, data in files.items()}
    content |= {"engine/__init__.py": b"raise SystemExit('never imported')\n"}
    content[f"{INFO}/METADATA"] = b"Metadata-Version: 2.1\nName: tiny-engine\nVersion: 1.0\n"
    content[f"{INFO}/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        record = ""
        for path, data in content.items():
            archive.writestr(path, data)
            sha256 = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record += f"{path},sha256={sha256},{len(data)}\n"
        for path, target in links.items():
            member = zipfile.ZipInfo(f"engine/_comfyui/{path}")
            member.create_system = 3
            member.external_attr = 0o120777 << 16
            archive.writestr(member, target)
        archive.writestr(f"{INFO}/RECORD", f"{record}{INFO}/RECORD,,\n")
    return folder / WHEEL


def write_tree(root: Path, files: Mapping[str, bytes]) -> None:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)


class Place:
    """A folder with a wheel, a repository and a lock that names both."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.into = root / "comfy" / "ComfyUI"
        self.lock = root / "comfyui.lock"
        self.env = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(root / "wheels")}
        self.env |= {"PIP_CONFIG_FILE": os.devnull, "GIT_CONFIG_GLOBAL": str(root / "gitconfig")}
        # Settings of a Windows user, under which a plain checkout changes bytes.
        (root / "gitconfig").write_text("[core]\n\tautocrlf = true\n\teol = crlf\n")
        self.url = f"file://{root}/upstream"
        self.wheel_has(FILES)
        self.repository_has(FILES)
        self.lock_has()

    def wheel_has(self, files: Mapping[str, bytes]) -> None:
        stray = {"stray.yaml": b"a: b\n"}
        self.wheel = write_wheel(self.root / "wheels", {**files, **stray})
        self.wheel_sha256 = hashlib.sha256(self.wheel.read_bytes()).hexdigest()

    def repository_has(self, files: Mapping[str, bytes]) -> None:
        upstream = self.root / "upstream"
        shutil.rmtree(upstream, ignore_errors=True)
        write_tree(upstream, {**files, ".ci/run": b"#!/bin/sh\n", ".github/a/b.yml": b"on: push\n"})
        env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
        env["GIT_CONFIG_GLOBAL"] = os.devnull
        settings = ["user.name=a", "user.email=a@example.invalid", "core.autocrlf=false"]
        options = [word for setting in settings for word in ("-c", setting)]

        def git(*argv: str) -> str:
            command = ["git", "-C", str(upstream), *options, *argv]
            done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
            return done.stdout

        git("init", "--quiet")
        # The bytes go in as they are, whatever .gitattributes says.
        (upstream / ".git/info/attributes").write_text("* -text\n")
        git("add", "--all", "--force")
        git("commit", "--quiet", "--message", "one")
        self.commit = git("rev-parse", "HEAD").strip()
        # The lock's commit need not be the tip of a branch.
        git("commit", "--quiet", "--allow-empty", "--message", "two")

    def lock_has(self, **changed: str) -> None:
        values = {
            "commit": self.commit,
            "version": "1.2.3",
            "tree_sha256": digest_by_definition(FILES),
            "sha256": self.wheel_sha256,
        } | changed
        self.lock.write_text(
            f'commit = "{values["commit"]}"\nversion = "{values["version"]}"\n'
            f'tree_sha256 = "{values["tree_sha256"]}"\n'
            f'[pypi]\nrequirement = "tiny-engine==1.0"\nwheel = "{WHEEL}"\n'
            f'sha256 = "{values["sha256"]}"\nfolder = "engine/_comfyui"\n'
            'leave_out = ["stray.yaml"]\n'
            f'[git]\nurl = "{self.url}"\nleave_out = [".ci", ".github", "not-there"]\n'
        )

    def argv(self, *more: str) -> list[str]:
        return [
            sys.executable,
            str(SCRIPT),
            "--lock",
            str(self.lock),
            "--into",
            str(self.into),
            *more,
        ]

    def run(self, *more: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(*more),
            env=self.env | env,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    def from_git(self, **env: str) -> subprocess.CompletedProcess[str]:
        return self.run("--source", "git", **env)

    def tree(self) -> dict[str, bytes]:
        """What is in place, less the manifest."""
        found = {path: (self.into / path).read_bytes() for path in tree_files(self.into)}
        found.pop(STAMP, None)
        return found

    def beside(self) -> list[str]:
        return sorted(path.name for path in self.into.parent.iterdir())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    return Place(tmp_path)


@pytest.fixture
def vendored(place: Place) -> Place:
    """The source is git wherever it does not matter, since it is five times as fast as pip."""
    assert place.from_git().returncode == 0
    return place


def test_the_wheel_gives_the_tree_and_nothing_else(place: Place) -> None:
    done = place.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert place.tree() == FILES
    assert place.beside() == ["ComfyUI"]
    assert f"ComfyUI 1.2.3 ({place.commit[:7]}) is now in" in done.stdout


def test_git_gives_the_same_bytes_whatever_its_settings_and_attributes(place: Place) -> None:
    done = place.from_git()
    assert (done.returncode, done.stderr) == (0, "")
    assert place.tree() == FILES
    assert place.beside() == ["ComfyUI"]


def test_both_sources_print_one_digest_and_change_nothing(place: Place) -> None:
    prints = [place.run("--print-digest", "--source", name) for name in ("pypi", "git")]
    last_lines = {done.stdout.splitlines()[-1] for done in prints}
    assert last_lines == {digest_by_definition(FILES)}
    assert place.beside() == []


def test_another_repository_can_be_named(place: Place) -> None:
    place.url = "file:///nowhere"
    place.lock_has()
    assert place.run("--git-url", f"file://{place.root}/upstream").returncode == 0
    assert place.tree() == FILES


def test_a_git_hook_that_runs_the_script_does_not_mislead_it(place: Place) -> None:
    hook = {"GIT_DIR": str(place.root / "upstream/.git"), "GIT_INDEX_FILE": "/nowhere/index"}
    done = place.from_git(**hook)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_second_run_does_nothing(vendored: Place) -> None:
    before = (vendored.into / "main.py").stat()
    done = vendored.run(PIP_FIND_LINKS="/nowhere", PATH="")
    assert done.stdout == f"ComfyUI 1.2.3 ({vendored.commit[:7]}) is in place\n"
    assert (vendored.into / "main.py").stat() == before


def test_what_running_comfyui_leaves_behind_does_not_count(vendored: Place) -> None:
    write_tree(
        vendored.into,
        {
            "comfy/__pycache__/ops.cpython-311.pyc": b"1",
            "user/comfyui.db": b"2",
            "temp/a.png": b"3",
        },
    )
    assert vendored.run("--check").returncode == 0


def test_a_folder_named_like_a_run_time_folder_further_down_counts(vendored: Place) -> None:
    write_tree(vendored.into, {"comfy/temp/a.py": b"1"})
    assert "extra    comfy/temp/a.py" in vendored.run("--check").stderr


def test_check_names_changed_missing_and_extra_files(vendored: Place) -> None:
    (vendored.into / "comfy/ops.py").write_bytes(b"x = 2\n")
    (vendored.into / "main.py").unlink()
    (vendored.into / "link.py").symlink_to("comfy/ops.py")
    done = vendored.run("--check")
    assert done.returncode == 1
    sentence, *files = done.stderr.splitlines()
    assert "is not as it was vendored; run `python scripts/vendor_comfyui.py`" in sentence
    assert files == ["  changed  comfy/ops.py", "  extra    link.py", "  missing  main.py"]


def test_check_lists_ten_files_at_most(vendored: Place) -> None:
    write_tree(vendored.into, {f"extra/{number:02}.py": b"" for number in range(13)})
    lines = vendored.run("--check").stderr.splitlines()
    assert len(lines) == 1 + 10 + 1
    assert lines[-1] == "  and 3 more"


def test_check_without_a_tree_says_how_to_get_one(place: Place) -> None:
    done = place.run("--check")
    assert done.returncode == 1
    assert "There is no ComfyUI in" in done.stderr
    assert "scripts/vendor_comfyui.py" in done.stderr
    assert not place.into.parent.exists()


def test_check_without_a_manifest_compares_the_digest(vendored: Place) -> None:
    (vendored.into / STAMP).write_text("[not json")
    assert vendored.run("--check").returncode == 0
    (vendored.into / "main.py").unlink()
    done = vendored.run("--check")
    assert done.returncode == 1
    assert digest_by_definition(FILES) in done.stderr


def test_a_changed_tree_is_put_right(vendored: Place) -> None:
    (vendored.into / "comfy/ops.py").write_bytes(b"x = 2\n")
    done = vendored.from_git()
    assert done.returncode == 0
    assert "changed  comfy/ops.py" in done.stdout
    assert vendored.tree() == FILES
    assert vendored.beside() == ["ComfyUI"]


def test_a_new_lock_replaces_the_tree(vendored: Place) -> None:
    newer = {**FILES, "main.py": b"print('newer')\n", "new.py": b""}
    newer.pop("comfy/ops.py")
    vendored.repository_has(newer)
    vendored.lock_has(tree_sha256=digest_by_definition(newer))
    assert vendored.run("--check").returncode == 1
    assert vendored.from_git().returncode == 0
    assert vendored.tree() == newer
    assert vendored.run("--check").returncode == 0


@pytest.mark.parametrize("own", ["models/mine.safetensors", "output/a.png", "user/workflow.json"])
def test_a_file_of_the_user_is_never_deleted(vendored: Place, own: str) -> None:
    write_tree(vendored.into, {own: b"mine", "main.py": b"changed"})
    done = vendored.run()
    assert done.returncode == 1
    assert own in done.stderr
    assert "move them away" in done.stderr
    assert (vendored.into / own).read_bytes() == b"mine"


def test_a_folder_that_is_no_vendored_tree_is_never_replaced(place: Place) -> None:
    write_tree(place.into, {"thesis.txt": b"mine"})
    assert place.run().returncode == 1
    assert place.tree() == {"thesis.txt": b"mine"}


def test_a_wrong_digest_leaves_the_old_tree_and_names_the_files(vendored: Place) -> None:
    (vendored.into / "comfy/ops.py").write_bytes(b"damaged")
    before = vendored.tree()
    other = {**FILES, "main.py": b"print('other')\n"}
    vendored.repository_has(other)
    vendored.lock_has()
    done = vendored.from_git()
    assert done.returncode == 1
    assert digest_by_definition(FILES) in done.stderr
    assert digest_by_definition(other) in done.stderr
    assert done.stderr.splitlines()[1:] == ["  changed  main.py"]
    assert vendored.tree() == before
    assert vendored.beside() == ["ComfyUI"]


@pytest.mark.parametrize("path", ["comfy/__pycache__/ops.pyc", "user/a.json", STAMP])
def test_a_source_cannot_smuggle_in_what_the_check_ignores(place: Place, path: str) -> None:
    place.repository_has({**FILES, path: b"{}"})
    place.lock_has()
    assert place.from_git().returncode == 1
    assert place.beside() == []


def test_a_wheel_with_another_hash_is_refused_with_both_hashes(place: Place) -> None:
    place.lock_has(sha256="0" * 64)
    done = place.run()
    assert done.returncode == 1
    assert "0" * 64 in done.stderr
    assert place.wheel_sha256 in done.stderr
    assert place.beside() == []


def test_a_wheel_entry_that_leads_out_is_refused(place: Place) -> None:
    place.wheel_has({**FILES, "../../evil.py": b"evil"})
    place.lock_has()
    done = place.run()
    assert done.returncode == 1
    assert "leads out of its folder" in done.stderr
    assert not list(place.root.rglob("*evil*"))
    assert place.beside() == []


@pytest.mark.parametrize(
    "path", ["../../evil.py", "comfy/../../evil.py", "/evil.py", "a\\..\\b.py", "./evil.py"]
)
def test_one_unsafe_entry_keeps_a_wheel_from_being_unpacked(tmp_path: Path, path: str) -> None:
    wheel = write_wheel(tmp_path / "wheels", {**FILES, path: b"evil"})
    with pytest.raises(VendorError, match="leads out of its folder"):
        unpack_folder(wheel, "engine/_comfyui", tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


def test_a_link_in_a_wheel_keeps_it_from_being_unpacked(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path / "wheels", FILES, links={"linked": "/etc"})
    with pytest.raises(VendorError, match="'engine/_comfyui/linked', which is a link"):
        unpack_folder(wheel, "engine/_comfyui", tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


def test_a_wheel_without_the_folder_is_refused(place: Place) -> None:
    with pytest.raises(VendorError, match=f"{WHEEL} has no elsewhere"):
        unpack_folder(place.wheel, "elsewhere", place.root / "tree")


def test_pip_without_the_package_says_what_to_look_at(place: Place) -> None:
    done = place.run(PIP_FIND_LINKS=str(place.root / "empty"))
    assert done.returncode == 1
    assert "pip could not get tiny-engine==1.0; check the network" in done.stderr
    assert "No matching distribution" in done.stderr
    assert place.beside() == []


def test_a_commit_that_is_not_there_is_named(place: Place) -> None:
    place.lock_has(commit="1" * 40)
    done = place.from_git()
    assert done.returncode == 1
    assert f"git could not get commit {'1' * 40} from {place.url}" in done.stderr
    assert place.beside() == []


def test_a_password_in_the_address_is_never_printed(place: Place) -> None:
    done = place.run("--git-url", "nothing://me:secret@host.invalid/x")
    assert done.returncode == 1
    assert "nothing://host.invalid/x" in done.stderr
    assert "secret" not in done.stdout + done.stderr


def test_a_missing_git_is_named(place: Place) -> None:
    done = place.from_git(PATH="")
    assert done.returncode == 1
    assert "no git on PATH" in done.stderr


def test_a_folder_that_cannot_be_written_gives_one_sentence(place: Place) -> None:
    place.into.parent.write_text("a file where a folder should be")
    done = place.run()
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert str(place.into.parent) in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("commit = ", "comit = ", "lacks `commit`"),
        ('version = "1.2.3"\n', "", "lacks `version`"),
        ("wheel = ", "weel = ", "lacks `pypi.wheel`"),
        ("url = ", "uri = ", "lacks `git.url`"),
        ("[pypi]", "[[pypi]]", "lacks `pypi.requirement`"),
        ("tiny-engine==1.0", "--index-url=x", "`pypi.requirement` in"),
        ("tiny-engine==1.0", "tiny-engine", "`pypi.requirement` in"),
        ('url = "file:', 'url = "--upload-pack=x', "`git.url` in"),
        ('"engine/_comfyui"', '"../engine"', "`pypi.folder` in"),
        ('"stray.yaml"', '"/stray.yaml"', "`pypi.leave_out` in"),
        ('"stray.yaml"', '"."', "`pypi.leave_out` in"),
        ('["stray.yaml"]', '"stray.yaml"', "`pypi.leave_out` in"),
        ('"1.2.3"', "1", "`version` in"),
        ('tree_sha256 = "', 'tree_sha256 = "0', "`tree_sha256` in"),
        ('\nsha256 = "', '\nsha256 = "Z', "`pypi.sha256` in"),
        ('commit = "', 'commit = "0', "`commit` in"),
        ("commit = ", "commit ", "is not valid TOML"),
    ],
)
def test_a_fault_in_the_lock_is_named(place: Place, old: str, new: str, said: str) -> None:
    assert old in place.lock.read_text()
    place.lock.write_text(place.lock.read_text().replace(old, new, 1))
    with pytest.raises(VendorError, match=re.escape(said)) as raised:
        read_lock(place.lock)
    assert str(place.lock) in str(raised.value)


def test_a_lock_that_is_not_there_or_names_no_source_is_an_error(tmp_path: Path) -> None:
    lock = tmp_path / "comfyui.lock"
    with pytest.raises(VendorError, match="There is no lock file"):
        read_lock(lock)
    lock.write_text(f'commit = "{"0" * 40}"\nversion = "1"\ntree_sha256 = "{"0" * 64}"\n')
    with pytest.raises(VendorError, match="neither"):
        read_lock(lock)


def test_a_source_that_the_lock_lacks_is_an_error(place: Place) -> None:
    place.lock.write_text(place.lock.read_text().partition("[git]")[0])
    done = place.from_git()
    assert done.returncode == 1
    assert "has no [git]" in done.stderr


def test_a_run_killed_while_it_fetches_leaves_the_old_tree_and_the_next_run_works(
    place: Place,
) -> None:
    assert place.from_git().returncode == 0
    (place.into / "main.py").write_bytes(b"damaged")
    before = place.tree()
    fetching, bin_folder = place.root / "fetching", place.root / "bin"
    write_tree(bin_folder, {"git": f"#!/bin/sh\ntouch {fetching}\nexec sleep 600\n".encode()})
    (bin_folder / "git").chmod(0o755)
    env = place.env | {"PATH": f"{bin_folder}:{os.environ['PATH']}"}
    # In a session of its own, so that the stand-in for git dies with it.
    killed = subprocess.Popen(
        place.argv("--source", "git"),
        env=env,
        stdout=DEVNULL,
        start_new_session=True,
    )
    wait_for(fetching)
    os.killpg(killed.pid, signal.SIGKILL)
    assert killed.wait(DEADLINE_S) == -signal.SIGKILL
    assert place.tree() == before
    assert place.beside() == [".ComfyUI.vendoring", "ComfyUI"]
    assert place.from_git().returncode == 0
    assert place.tree() == FILES
    assert place.beside() == ["ComfyUI"]


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.01)


def test_a_run_killed_between_its_two_renames_loses_nothing(vendored: Place) -> None:
    work = vendored.into.parent / ".ComfyUI.vendoring"
    write_tree(work / "tree", FILES)
    (vendored.into / "main.py").write_bytes(b"damaged")
    vendored.into.rename(work / "old")
    assert vendored.from_git(PATH="").returncode == 1
    assert vendored.tree() == {**FILES, "main.py": b"damaged"}
    assert vendored.from_git().returncode == 0
    assert vendored.tree() == FILES
    assert vendored.beside() == ["ComfyUI"]


def test_runs_at_the_same_time_wait_for_each_other(place: Place) -> None:
    runs: list[subprocess.Popen[Any]] = [
        subprocess.Popen(place.argv("--source", "git"), env=place.env, stdout=DEVNULL)
        for _ in range(3)
    ]
    assert [run.wait(DEADLINE_S) for run in runs] == [0, 0, 0]
    assert place.tree() == FILES
    assert place.beside() == ["ComfyUI"]


def test_a_child_of_a_killed_run_keeps_the_next_run_out_until_it_ends(place: Place) -> None:
    fetching, done = place.root / "fetching", place.root / "done"
    stand_in = f"#!/bin/sh\ntouch {fetching}\nwhile [ ! -e {done} ]; do sleep 0.05; done\n"
    write_tree(place.root / "bin", {"git": stand_in.encode()})
    (place.root / "bin/git").chmod(0o755)
    env = place.env | {"PATH": f"{place.root / 'bin'}:{os.environ['PATH']}"}
    killed = subprocess.Popen(place.argv("--source", "git"), env=env, stdout=DEVNULL)
    wait_for(fetching)
    killed.kill()
    killed.wait(DEADLINE_S)
    following = subprocess.Popen(place.argv("--source", "git"), env=place.env, stdout=DEVNULL)
    with pytest.raises(subprocess.TimeoutExpired):
        following.wait(0.5)
    done.touch()
    assert following.wait(DEADLINE_S) == 0
    assert place.tree() == FILES


def test_the_digest_is_what_the_lock_file_defines(tmp_path: Path) -> None:
    write_tree(tmp_path, FILES)
    assert tree_manifest(tmp_path) == manifest(FILES)
    assert tree_digest(manifest(FILES)) == digest_by_definition(FILES)
    shell = r"find . -type f -printf '%P\0' | xargs -0 sha256sum | LC_ALL=C sort | sha256sum"
    if shutil.which("sha256sum") is None:
        pytest.skip("sha256sum is not installed")
    printed = subprocess.run(["sh", "-c", shell], cwd=tmp_path, check=True, capture_output=True)
    assert printed.stdout.split()[0].decode() == digest_by_definition(FILES)


def test_the_projects_own_lock_can_be_read() -> None:
    lock = read_lock(ROOT / "comfy" / "comfyui.lock")
    assert list(lock.sources) == ["pypi", "git"]
    assert str(lock) == f"ComfyUI {lock.version} ({lock.commit[:7]})"
