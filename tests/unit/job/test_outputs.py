import contextlib
import hashlib
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from handler.comfy_api.node_outputs import SavedFile
from handler.errors import ComfyProtocol
from handler.job.outputs import Output, OutputFile, OutputImage, read_output


def picture(kind: str = "PNG", frames: int = 1, **more: Any) -> bytes:
    buffer = io.BytesIO()
    first, *others = [Image.new("RGB", (3, 2), (40 * number, 0, 0)) for number in range(frames)]
    moving = {"save_all": True, "append_images": others, "duration": 50} if others else {}
    first.save(buffer, kind, **moving, **more)
    return buffer.getvalue()


def read(folder: Path, name: str, data: bytes, folder_type: str = "output") -> Output:
    (folder / name).write_bytes(data)
    return read_output(folder / name, SavedFile("9", name, "job", folder_type), "deep/cat")


def fault_of(folder: Path, name: str, data: bytes) -> ComfyProtocol:
    with pytest.raises(ComfyProtocol) as caught:
        read(folder, name, data)
    assert caught.value.details == {"node_id": "9", "filename": name}
    return caught.value


@pytest.mark.parametrize(
    ("kind", "extension", "content_type"),
    [
        ("PNG", "png", "image/png"),
        ("JPEG", "jpg", "image/jpeg"),
        ("WEBP", "webp", "image/webp"),
        ("GIF", "gif", "image/gif"),
        ("TIFF", "tif", "image/tiff"),
        ("BMP", "bmp", "image/bmp"),
        ("AVIF", "avif", "image/avif"),
    ],
)
def test_a_picture_is_read_and_described(
    tmp_path: Path, kind: str, extension: str, content_type: str
) -> None:
    data = picture(kind)
    image = read(tmp_path, f"cat_00001_.{extension}", data)
    assert image == OutputImage(
        "9", f"cat_00001_.{extension}", "deep/cat", data, content_type, 3, 2,
        hashlib.sha256(data).hexdigest(), frames=1, is_preview=False,
    )  # fmt: skip
    assert (image.extension, image.size_bytes) == (extension, len(data))


@pytest.mark.parametrize(
    ("kind", "content_type"),
    [("WEBP", "image/webp"), ("PNG", "image/apng"), ("GIF", "image/gif")],
)
def test_a_moving_picture_is_one_picture_with_its_frames(
    tmp_path: Path, kind: str, content_type: str
) -> None:
    image = read(tmp_path, f"cat.{kind.lower()}", picture(kind, frames=4))
    assert isinstance(image, OutputImage)
    assert (image.frames, image.content_type, image.width) == (4, content_type, 3)


def test_a_picture_that_is_shown_leaves_its_data_out(tmp_path: Path) -> None:
    image = read(tmp_path, "cat.png", noise("PNG"))
    assert "cat.png" in repr(image)
    assert len(repr(image)) < 500


def test_a_picture_is_known_by_its_content(tmp_path: Path) -> None:
    assert isinstance(read(tmp_path, "cat.bin", picture()), OutputImage)


def test_another_file_stays_where_it_is(tmp_path: Path) -> None:
    data = b"\x00\x00\x00\x20ftypisom" + bytes(3_000_000)
    file = read(tmp_path, "clip.mp4", data)
    assert file == OutputFile(
        "9", "clip.mp4", "deep/cat", tmp_path / "clip.mp4", file.kind, "video/mp4", len(data),
        hashlib.sha256(data).hexdigest(), is_preview=False,
    )  # fmt: skip
    assert (file.kind, file.extension) == ("video", "mp4")


@pytest.mark.parametrize("name", ["a.latent", "a.safetensors", "a.svg", "a", "a.tga"])
def test_whatever_else_there_is_is_other(tmp_path: Path, name: str) -> None:
    file = read(tmp_path, name, bytes(200))
    assert isinstance(file, OutputFile)
    assert file.kind == "other"


def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    file = read(tmp_path, "a.txt", b"")
    assert (file.size_bytes, file.sha256) == (0, hashlib.sha256().hexdigest())


@pytest.mark.parametrize(("name", "data"), [("a.png", picture()), ("a.wav", b"RIFF")])
def test_what_lies_in_the_temp_folder_is_a_preview(tmp_path: Path, name: str, data: bytes) -> None:
    assert read(tmp_path, name, data, "temp").is_preview


@pytest.mark.parametrize(
    "data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0\x00", b"GIF89a"]
)
@pytest.mark.parametrize("name", ["cat.png", "cat.webp"])
def test_a_broken_picture_is_told(tmp_path: Path, name: str, data: bytes) -> None:
    """A client would else see a job that ended well, without its picture."""
    assert "no whole picture" in fault_of(tmp_path, name, data).message


def noise(kind: str, frames: int = 1, **more: Any) -> bytes:
    first, *others = [Image.effect_noise((60, 40), 80).convert("RGB") for _ in range(frames)]
    moving = {"save_all": True, "append_images": others, "duration": 50} if others else {}
    buffer = io.BytesIO()
    first.save(buffer, kind, **moving, **more)
    return buffer.getvalue()


@pytest.mark.parametrize("kept", [0.5, 0.95])
@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize(
    ("kind", "more"),
    [("PNG", {}), ("PNG", {"compress_level": 0}), ("WEBP", {}), ("GIF", {}), ("JPEG", {})],
    ids=["PNG", "uncompressed PNG", "WEBP", "GIF", "JPEG"],
)
def test_a_picture_whose_header_is_whole_and_whose_end_is_gone_is_told(
    tmp_path: Path, kind: str, more: dict[str, Any], frames: int, kept: float
) -> None:
    data = noise(kind, 1 if kind == "JPEG" else frames, **more)
    assert isinstance(read(tmp_path, "a.bin", data), OutputImage)
    assert (
        "no whole picture" in fault_of(tmp_path, "cat.png", data[: int(len(data) * kept)]).message
    )


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("at", [0.3, 0.95])
def test_a_png_with_a_bit_that_is_wrong_is_told(tmp_path: Path, frames: int, at: float) -> None:
    data = bytearray(noise("PNG", frames))
    data[int(len(data) * at)] ^= 1
    assert "no whole picture" in fault_of(tmp_path, "cat.png", bytes(data)).message


def test_a_broken_picture_of_a_rare_format_is_a_file(tmp_path: Path) -> None:
    data = noise("BMP")
    file = read(tmp_path, "a.bmp", data[: len(data) // 2])
    assert isinstance(file, OutputFile)
    assert (file.kind, file.size_bytes) == ("other", len(data) // 2)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
def test_a_moving_picture_that_is_cut_off_is_read_or_told(tmp_path: Path, kind: str) -> None:
    data = picture(kind, frames=3)
    for size in range(len(data)):
        with contextlib.suppress(ComfyProtocol):
            assert read(tmp_path, f"a.{kind.lower()}", data[:size]).size_bytes == size


def test_a_file_that_can_not_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ComfyProtocol, match=r"a\.mp4, which node 9 saved, can't be read"):
        read_output(tmp_path / "gone.mp4", SavedFile("9", "a.mp4", "", "output"), "a")
