"""The edits of `make smoke` that show what only real weights can: whether an edit lies where the
photo does, with the worker's own graph and with the official template's, and what shows at a
mask's edge."""

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alignment import Edge, Offset, edge, offset
from picture_checks import Finding, decode
from PIL import Image, ImageChops, ImageDraw

# Of cameras' ratio, at which the template's sample and its reference are of two sizes.
_RATIO = 3 / 2
_SEED = 2511
# They keep where things are, and change much.
_RECOLOUR = "Change the background to light blue, keep the person exactly unchanged"
_MASKED = "Change the colour of the clothes to red, keep everything else exactly unchanged"

Edit = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class LineUp:
    """`pictures` are the results, by the names of their files."""

    aligned: Offset
    template: Offset
    edge: Edge
    finding: Finding
    pictures: Mapping[str, bytes]

    def figures(self) -> dict[str, Any]:
        return {
            "aligned": asdict(self.aligned),
            "template": asdict(self.template),
            "edge": asdict(self.edge),
        }

    def lines(self) -> list[str]:
        graphs = (("worker's own graph", self.aligned), ("official template", self.template))
        tint = ", ".join(f"{value:+.1f}" for value in self.edge.tint)
        return [
            *(
                f"{name}: {at.right:+.2f} px right, {at.down:+.2f} px down, "
                f"{at.zoom_percent:+.2f} % larger (peak {at.peak:.2f})"
                for name, at in graphs
            ),
            f"inside the mask's edge: {self.edge.inside:.1f} levels away, tint {tint}; "
            f"step at the edge {self.edge.step:+.1f} levels",
        ]


def line_up(photo_path: Path, edit: Edit) -> LineUp:
    """Three edits. Raises what `edit` raises, and OSError for an answer without a picture."""
    photo = _cropped(photo_path)
    mask = _mask(photo.size)
    words = {"prompt": _RECOLOUR, "seed": _SEED}
    data = {
        "aligned": _run(edit, photo, words),
        "template": _run(edit, photo, {**words, "fit": "template"}),
        "masked": _run(edit, photo, {"prompt": _MASKED, "seed": _SEED, "mask": _base64(mask)}),
    }
    aligned, template, masked = (decode(picture) for picture in data.values())
    return LineUp(
        offset(photo, aligned), offset(photo, template), edge(photo, masked, mask),
        _outside(photo, masked, mask), data,
    )  # fmt: skip


def _run(edit: Edit, photo: Image.Image, job_input: dict[str, Any]) -> bytes:
    images = [{"name": "photo.png", "image": _base64(photo)}]
    job = {"input": {**job_input, "images": images, "output": {"delivery": "base64"}}}
    return base64.b64decode(edit(job)["images"][0]["data"])


def _cropped(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        photo = picture.convert("RGB")
    height = round(photo.width / _RATIO)
    return photo.crop((0, 0, photo.width, height))


def _mask(size: tuple[int, int]) -> Image.Image:
    width, height = size
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).ellipse((width // 4, height // 2, width * 3 // 4, height - 8), fill=255)
    return mask


def _outside(photo: Image.Image, result: Image.Image, mask: Image.Image) -> Finding:
    what = "outside a mask no pixel changes"
    if photo.size != result.size:
        return Finding(what, False, f"the result is {result.width} x {result.height}")
    black = Image.new("RGB", photo.size)
    differing = Image.composite(black, ImageChops.difference(photo, result), mask)
    box = differing.getbbox()
    return Finding(what, box is None, "none" if box is None else f"some within {box}")


def _base64(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
