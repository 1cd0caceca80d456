"""Our LoadImage and SaveImage against those of the vendored ComfyUI, in its own environment: the
same tensors, the same files, the same errors."""

import base64
import io
import json
import random
import re
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image

from handler.pictures.images import ImageLimits, decode_image
from handler.pictures.stored_png import compress
from handler.settings import PROJECT_DIR

LIMITS = ImageLimits(count=1, data_bytes=10**7, pixels=10**7, uncompressed_pixels=10**6)
CHILD = PROJECT_DIR / "tests" / "contract" / "children" / "compare_pictures.py"


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(mode: str, size: tuple[int, int] = (61, 47), seed: int = 1) -> Image.Image:
    width, height = size
    data = random.Random(seed).randbytes(width * height * len(mode))
    return Image.frombytes(mode, size, data)


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


def palette(colors: int = 200) -> Image.Image:
    return noise("RGB").quantize(colors)


def random_pictures() -> dict[str, bytes]:
    some = random.Random(7)
    pictures = {}
    for number in range(40):
        size = some.randint(1, 90), some.randint(1, 90)
        kind, mode = some.choice(
            [("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "L"), ("PNG", "LA"), ("JPEG", "RGB"),
             ("JPEG", "L"), ("WEBP", "RGB"), ("WEBP", "RGBA")]
        )  # fmt: skip
        exif = turned(some.randint(1, 8))
        pictures[f"random {number}"] = saved(noise(mode, size, number), kind, exif=exif)
    return pictures


STORED = {
    "png rgb": saved(noise("RGB"), "PNG"),
    "png rgba": saved(noise("RGBA"), "PNG"),
    "png gray": saved(noise("L"), "PNG"),
    "png gray and alpha": saved(noise("LA"), "PNG"),
    "png palette": saved(palette(), "PNG"),
    "png palette of 2 colours": saved(palette(2), "PNG"),
    "png palette, one colour transparent": saved(palette(), "PNG", transparency=3),
    "png palette, alpha for each": saved(palette(), "PNG", transparency=bytes(range(200))),
    "png palette, transparent and turned": saved(
        palette(), "PNG", transparency=bytes(range(200)), exif=turned(6)
    ),
    "png not compressed": saved(noise("RGB"), "PNG", compress_level=0),
    "jpeg": saved(noise("RGB"), "JPEG"),
    "jpeg progressive": saved(noise("RGB"), "JPEG", progressive=True, quality=40),
    "jpeg gray": saved(noise("L"), "JPEG"),
    "jpeg with a profile": saved(noise("RGB"), "JPEG", icc_profile=b"not read by LoadImage"),
    "webp": saved(noise("RGB"), "WEBP"),
    "webp rgba": saved(noise("RGBA"), "WEBP", lossless=True),
    "one pixel": saved(noise("RGB", (1, 1)), "PNG"),
    "several blocks": saved(noise("RGB", (1024, 50)), "PNG"),
    "longest row of a block": saved(noise("RGB", (21844, 3)), "PNG"),
    **{f"jpeg turned {way}": saved(noise("RGB"), "JPEG", exif=turned(way)) for way in range(1, 9)},
    **random_pictures(),
}  # fmt: skip

AS_SENT = {
    "1 bit": saved(noise("L").convert("1"), "PNG"),
    "animation": saved(
        noise("RGB"), "WEBP", save_all=True, append_images=[noise("RGB", seed=2)], lossless=True
    ),
    "rows over a block": saved(noise("RGB", (21845, 2)), "PNG"),
    "over the limit": saved(Image.new("RGB", (1001, 1000)), "PNG"),
}


def with_filters(data: bytes) -> bytes:
    """An uncompressed PNG of one block in which each row is filtered by its left neighbour."""
    start, end = data.index(b"IDAT") + 4, data.index(b"IEND") - 4
    width = int.from_bytes(data[16:20])
    rows = bytearray(data[start + 7 : end - 8])
    rows[:: 1 + 3 * width] = b"\1" * len(rows[:: 1 + 3 * width])
    pixels = data[start : start + 7] + rows + struct.pack(">I", zlib.adler32(rows))
    checksum = struct.pack(">I", zlib.crc32(b"IDAT" + pixels))
    return data[:start] + pixels + checksum + data[end:]


def with_exif_at_the_end(data: bytes) -> bytes:
    chunk = b"eXIf" + turned(6).tobytes().removeprefix(b"Exif\0\0")
    size, checksum = struct.pack(">I", len(chunk) - 4), struct.pack(">I", zlib.crc32(chunk))
    return data[:-12] + size + chunk + checksum + data[-12:]


def uncompressed(data: bytes) -> bytes | None:
    text = base64.b64encode(data).decode()
    return decode_image("photo", text, "input.images[0]", LIMITS).for_comfy


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def compared(work_dir: Path) -> dict[str, Any]:
    (work_dir / "input").mkdir()
    for name, data in STORED.items():
        stored = uncompressed(data)
        assert stored is not None, name
        (work_dir / "input" / f"{name}.sent").write_bytes(data)
        (work_dir / "input" / f"{name}.png").write_bytes(stored)
    small = uncompressed(STORED["png rgb"])
    assert small is not None
    alike = {"filters": with_filters(small), "exif": with_exif_at_the_end(small)}
    for name, data in (AS_SENT | alike).items():
        for kind in ("sent", "png"):
            (work_dir / "input" / f"{name}.{kind}").write_bytes(data)
    python = PROJECT_DIR / "comfy" / ".venv" / "bin" / "python"
    nodes_dir = PROJECT_DIR / "comfy" / "worker_nodes"
    run = subprocess.run(
        [python, CHILD, PROJECT_DIR / "comfy" / "ComfyUI", nodes_dir, work_dir],
        capture_output=True, text=True, timeout=120, cwd=work_dir,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    return dict(json.loads(run.stdout.splitlines()[-1]))


def test_the_methods_of_the_vendored_comfyui_are_those_that_are_known(
    compared: dict[str, Any],
) -> None:
    assert compared["replaced"] == [True, True, True]


def test_a_picture_is_loaded_as_upstream_loads_the_one_that_was_sent(
    compared: dict[str, Any],
) -> None:
    assert {name: differs for name, differs in compared["loads"].items() if differs} == {}
    assert compared["loads"].keys() == STORED.keys() | AS_SENT.keys() | {"filters", "exif"}


@pytest.mark.parametrize("name", AS_SENT)
def test_a_picture_that_might_be_loaded_otherwise_is_left_as_it_was_sent(name: str) -> None:
    assert uncompressed(AS_SENT[name]) is None


def test_saving_answers_and_fails_as_upstream_does(compared: dict[str, Any]) -> None:
    for name, (stock, ours) in compared["saves"].items():
        assert ours == stock, name
    failed = {name for name, (stock, _) in compared["saves"].items() if isinstance(stock, str)}
    assert failed == {
        "bfloat16", "one channel", "five channels", "no pictures", "outside", "key that is no latin"
    }  # fmt: skip


def test_a_saved_file_becomes_upstreams_to_the_byte(
    compared: dict[str, Any], work_dir: Path
) -> None:
    stock = {path.relative_to(work_dir / "stock"): path for path in work_dir.glob("stock/*/*")}
    ours = {path.relative_to(work_dir / "ours"): path for path in work_dir.glob("ours/*/*")}
    assert stock.keys() == ours.keys()
    assert len(stock) > 15
    for name, path in stock.items():
        if name.parts[0] != "preview":
            assert compress(ours[name].read_bytes()) == path.read_bytes(), name


def test_a_preview_has_the_pixels_and_the_text_of_upstreams(
    compared: dict[str, Any], work_dir: Path
) -> None:
    [stock], [ours] = (list(work_dir.glob(f"{side}/preview/*")) for side in ("stock", "ours"))
    with Image.open(stock) as one, Image.open(ours) as other:
        assert one.tobytes() == other.tobytes()
        assert one.info == other.info


def test_what_we_save_is_not_compressed(compared: dict[str, Any], work_dir: Path) -> None:
    [path] = work_dir.glob("ours/rgba/*.png")
    assert path.stat().st_size > 33 * 40 * 4


def test_another_save_image_is_left_alone_with_one_warning(compared: dict[str, Any]) -> None:
    assert compared["warnings"] == [
        "stored_pictures: SaveImage.save_images not as known, left as upstream has it"
    ]


def pinned_pillow(lock: Path) -> list[str]:
    return re.findall(r"^pillow==(\S+)", lock.read_text(), re.MULTILINE)


def test_both_environments_have_one_pillow_so_that_they_decode_and_compress_alike() -> None:
    [version] = pinned_pillow(PROJECT_DIR / "requirements.lock")
    assert pinned_pillow(PROJECT_DIR / "comfy" / "requirements.lock") == [version]
