import hashlib
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handler.errors import ModelCorrupt
from handler.models.check import check_model, hash_model, sample_digest, sample_spans
from handler.models.lock import ModelFile


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
