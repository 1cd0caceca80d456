"""What every store of objects does, on the disk and on a real S3 server."""

import io
import os
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from gateway.errors import DiskFull, StoreUnavailable
from gateway.objects import DiskObjects, ObjectMissing, ObjectStore, S3Objects


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="id",
        aws_secret_access_key="secret",
    ).create_bucket(Bucket="pictures")  # fmt: skip
    yield url
    server.stop()


@pytest.fixture(params=["disk", "s3"])
def objects(request: Any, tmp_path: Path) -> ObjectStore:
    if request.param == "disk":
        return DiskObjects(tmp_path)
    url = request.getfixturevalue("s3_server")
    return S3Objects(url, "pictures", "id", "secret", tmp_path)


def content(objects: ObjectStore, key: str) -> bytes:
    with objects.open(key) as file:
        return file.read()


def test_what_is_deleted_while_the_room_is_counted_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        DiskObjects(tmp_path).put(f"inputs/{number}/0.png", b"12345")
    list_folder = os.scandir

    def list_and_delete(path: Any) -> Any:
        """Another deletes a folder once its parent is listed."""
        if Path(path).parent.name == "inputs":
            monkeypatch.undo()
            shutil.rmtree(path)
        return list_folder(path)

    monkeypatch.setattr(os, "scandir", list_and_delete)
    assert DiskObjects(tmp_path).used_bytes() == 5


def test_what_is_put_can_be_read_and_replaced(objects: ObjectStore, tmp_path: Path) -> None:
    objects.put("inputs/a/0.png", b"one")
    objects.put("inputs/a/0.png", b"three")
    assert content(objects, "inputs/a/0.png") == b"three"
    assert objects.size("inputs/a/0.png") == 5
    file = objects.temp_dir / "spooled"
    file.write_bytes(b"from a file")
    objects.put_file("inputs/a/1.png", file)
    assert not file.exists()
    assert content(objects, "inputs/a/1.png") == b"from a file"


def test_what_is_not_there_is_missing(objects: ObjectStore) -> None:
    for call in (objects.open, objects.size):
        with pytest.raises(ObjectMissing):
            call("none/of/it.png")


def test_deleting_a_folder_leaves_its_neighbours(objects: ObjectStore) -> None:
    for key in ("results/a/0.png", "results/a/1.png", "results/ab/0.png", "results/a.png"):
        objects.put(key, b"x")
    objects.delete("results/a")
    objects.delete("results/a")
    assert [name for name, _ in objects.folders("results/")] != []
    assert sorted(name for name, _ in objects.folders("results/")) == ["a.png", "ab"]
    with pytest.raises(ObjectMissing):
        objects.size("results/a/0.png")


def test_a_store_that_works_passes_its_check(objects: ObjectStore) -> None:
    objects.check()


def test_a_bucket_gives_an_address_that_opens_the_object(s3_server: str, tmp_path: Path) -> None:
    objects = S3Objects(s3_server, "pictures", "id", "secret", tmp_path)
    objects.put("results/a/0.png", b"picture")
    with urllib.request.urlopen(objects.link("results/a/0.png", "cat.png")) as answer:
        assert answer.read() == b"picture"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="cat.png"'
    assert DiskObjects(tmp_path).link("results/a/0.png", None) is None


def test_a_bucket_that_does_not_answer_or_exist_is_unavailable(
    s3_server: str, tmp_path: Path
) -> None:
    for url, name in (("http://127.0.0.1:9", "pictures"), (s3_server, "no-such-bucket")):
        objects = S3Objects(url, name, "id", "secret", tmp_path)
        with pytest.raises(StoreUnavailable):
            objects.put("a/b", b"x")


@pytest.mark.parametrize(
    "key", ["../x", "a/../../x", "a//b", "/etc/passwd", ".", "a/\0", "x" * 300]
)
def test_no_key_leads_out_of_the_folder(tmp_path: Path, key: str) -> None:
    objects = DiskObjects(tmp_path / "data")
    (tmp_path / "x").write_text("outside")
    with pytest.raises(ObjectMissing):
        objects.open(key)


def test_the_disks_room_is_bounded_and_comes_back(tmp_path: Path) -> None:
    objects = DiskObjects(tmp_path, most_bytes=100)
    objects.put("a/1", bytes(60))
    with pytest.raises(DiskFull):
        objects.put("a/2", bytes(60))
    assert list(objects.temp_dir.iterdir()) == []
    objects.delete("a/1")
    objects.put("a/2", bytes(60))
    with objects.open("a/2") as file:
        assert io.BytesIO(file.read()).getbuffer().nbytes == 60


def test_files_that_a_crash_has_cut_off_go_after_a_day(tmp_path: Path) -> None:
    objects = DiskObjects(tmp_path)
    left = objects.temp_dir / "left"
    left.write_bytes(b"x")
    written_ms = left.stat().st_mtime_ns // 1_000_000
    objects.drop_abandoned(written_ms + 23 * 3_600_000)
    assert left.exists()
    objects.drop_abandoned(written_ms + 25 * 3_600_000)
    assert not left.exists()
