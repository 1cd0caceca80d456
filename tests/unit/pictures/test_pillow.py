import io
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from handler.pictures.pillow import DECODER_ERRORS

KINDS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "PPM")


def saved(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((24, 16), 80).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


WHOLE = {kind: saved(kind) for kind in KINDS}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_broken_file_raises_nothing_else(kind: str, data: st.DataObject) -> None:
    whole = WHOLE[kind]
    broken = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 3))):
        if broken:
            broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    try:
        with Image.open(io.BytesIO(broken)) as picture:
            if picture.width * picture.height < 1_000_000:
                picture.load()
    except DECODER_ERRORS:
        pass


@pytest.mark.parametrize(
    "module", ["pictures.images", "job.outputs", "job.reencode", "pictures.stored_png"]
)
def test_whoever_opens_pictures_opens_those_of_any_size(module: str) -> None:
    program = f"import handler.{module}, PIL.Image; raise SystemExit(PIL.Image.MAX_IMAGE_PIXELS)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
