"""Runs upstream's LoadImage, LoadImageMask, SaveImage and PreviewImage beside ours, in ComfyUI's
environment, and prints as JSON what differs: `compare_pictures.py COMFY_DIR NODES_DIR WORK_DIR`.

WORK_DIR/input holds pairs of pictures, NAME.sent and NAME.png. What is saved goes to
WORK_DIR/stock and WORK_DIR/ours, under the name of its case.
"""

import asyncio
import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

comfy_dir, nodes_dir, work_dir = (Path(argument) for argument in sys.argv[1:])
sys.argv[1:] = ["--cpu"]
sys.path.insert(0, str(comfy_dir))

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import folder_paths  # noqa: E402
import nodes  # noqa: E402
import torch  # noqa: E402
from comfy.cli_args import args  # noqa: E402

STOCK_LOAD, STOCK_SAVE = nodes.LoadImage.load_image, nodes.SaveImage.save_images
PROMPT = {"1": {"class_type": "SaveImage", "inputs": {"text": 'quoted "Ä" \n'}}}
EXTRA = {"workflow": {"nodes": [1, 2]}, "Ä": "ü"}


def loads() -> Iterator[tuple[str, list[str]]]:
    """Names of the pictures, with what differs between the two files of each."""
    folder_paths.set_input_directory(str(work_dir / "input"))
    for path in sorted((work_dir / "input").glob("*.sent")):
        stored = f"{path.stem}.png"
        stock = STOCK_LOAD(nodes.LoadImage(), path.name)
        differs = [
            f"{what} {reader}"
            for reader, load in (("stock", STOCK_LOAD), ("ours", nodes.LoadImage.load_image))
            for what, one, other in zip(
                ("image", "mask"), stock, load(nodes.LoadImage(), stored), strict=True
            )
            if not is_same(one, other)
        ]
        for channel in ("alpha", "red", "green", "blue"):
            masks = [
                nodes.LoadImageMask().load_image(name, channel)[0] for name in (path.name, stored)
            ]
            if not is_same(*masks):
                differs.append(f"LoadImageMask {channel}")
        yield path.stem, differs


def is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return (
        one.shape == other.shape
        and one.dtype == other.dtype
        and one.stride() == other.stride()
        and one.numpy().tobytes() == other.numpy().tobytes()
    )


def pictures() -> dict[str, torch.Tensor]:
    some = torch.Generator().manual_seed(1)
    levels = torch.arange(0, 256, dtype=torch.float32) / 255
    near = torch.cat([levels, levels.nextafter(torch.tensor(2.0)), levels.nextafter(-levels - 1)])
    special = [float("nan"), float("inf"), -float("inf"), -0.0, -1e-8, 1 + 1e-6, 2.0, 1e38, 1e-45]
    rgb = torch.rand(1, 97, 65, 3, generator=some) * 1.2 - 0.1
    return {
        "rgb": rgb,
        "rgba": torch.rand(1, 33, 40, 4, generator=some),
        "every level and its neighbours": near.reshape(1, 16, 16, 3),
        "special values": torch.tensor(special * 3).reshape(1, 3, 3, 3),
        "batch": torch.rand(3, 8, 8, 3, generator=some),
        "one pixel": torch.ones(1, 1, 1, 3),
        "blocks end with the rows": torch.rand(1, 42, 1024, 3, generator=some),
        "channels first in memory": torch.rand(1, 3, 70, 50, generator=some).movedim(1, -1),
        "every second row": torch.rand(1, 70, 50, 3, generator=some)[:, ::2],
        "half": rgb.half(),
        "double": rgb.double(),
        "bfloat16": rgb.bfloat16(),
        "integers": torch.randint(0, 3, (1, 5, 5, 3), generator=some),
        "one channel": rgb[..., :1],
        "two channels": rgb[..., :2],
        "five channels": torch.rand(1, 4, 4, 5, generator=some),
        "no channels": rgb[..., 0],
        "rows over a block": torch.rand(1, 1, 21845, 3, generator=some),
        "no pictures": rgb[:0],
    }


def saves() -> Iterator[tuple[str, Any, Any]]:
    """Names of the cases, with the answers or the errors of upstream's method and of ours."""
    for name, images in pictures().items():
        prefix = f"{name}/%batch_num%_%width%_x"
        yield name, *both(nodes.SaveImage, (images, prefix, PROMPT, EXTRA))
    rgb = pictures()["rgb"]
    yield "again", *both(nodes.SaveImage, (rgb, "rgb/%batch_num%_%width%_x", PROMPT, EXTRA))
    yield "a list", *both(nodes.SaveImage, (list(rgb), "a list/x"))
    yield "outside", *both(nodes.SaveImage, (rgb, "../x"))
    yield "key that is no latin", *both(nodes.SaveImage, (rgb, "€/x", PROMPT, {"€": 1}))
    yield "prompt only", *both(nodes.SaveImage, (rgb, "prompt only/x", PROMPT))
    args.disable_metadata = True
    yield "no metadata", *both(nodes.SaveImage, (rgb, "no metadata/x", PROMPT, EXTRA))
    args.disable_metadata = False
    yield "preview", *both(nodes.PreviewImage, (rgb, "preview/x", PROMPT))


def both(node: type, arguments: tuple[Any, ...]) -> tuple[Any, Any]:
    return answer("stock", STOCK_SAVE, node, arguments), answer(
        "ours", nodes.SaveImage.save_images, node, arguments
    )


def answer(side: str, save: Callable[..., Any], node: type, arguments: tuple[Any, ...]) -> Any:
    saver = node()
    saver.output_dir = str(work_dir / side)
    if node is nodes.PreviewImage:
        saver.prefix_append = "_temp"
    try:
        return save(saver, *arguments)
    except Exception as exc:
        return type(exc).__name__


def left_where_upstream_differs() -> list[str]:
    """What our nodes say when SaveImage is another than they know."""
    nodes.LoadImage.load_image = STOCK_LOAD
    nodes.SaveImage.save_images = other = lambda self, images: {"ui": {}}
    warnings: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: warnings.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    load_our_nodes()
    assert nodes.SaveImage.save_images is other
    assert nodes.LoadImage.load_image is not STOCK_LOAD
    return [text for text in warnings if text.startswith("stored_pictures")]


def load_our_nodes() -> None:
    assert asyncio.run(nodes.load_custom_node(str(nodes_dir / "stored_pictures")))


load_our_nodes()
result = {
    "replaced": [
        nodes.LoadImage.load_image is not STOCK_LOAD,
        nodes.SaveImage.save_images is not STOCK_SAVE,
        nodes.PreviewImage.save_images is nodes.SaveImage.save_images,
    ],
    "loads": dict(loads()),
    "saves": {name: [one, other] for name, one, other in saves()},
    "warnings": left_where_upstream_differs(),
}
print(json.dumps(result))
