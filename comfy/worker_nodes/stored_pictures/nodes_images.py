"""What takes the place of LoadImage.load_image and SaveImage.save_images: the same pixels to the
bit, without zlib's work. Whatever is out of the ordinary is left to upstream's own methods."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
import torch
from comfy.cli_args import args
from PIL.PngImagePlugin import PngInfo

from .stored_layout import Fill, Layout, pack, unpack

# Larger ones are rare, and uncompressed they would fill memory and disk.
MOST_PIXELS = 4096 * 4096
# Those in which `255. * picture` has the picture's own type. NumPy does not know bfloat16.
_FLOATS = (torch.float16, torch.float32, torch.float64)


def make_load_image(stock: Callable[..., Any]) -> Callable[..., Any]:
    def load_image(self: Any, image: str) -> Any:
        with Path(folder_paths.get_annotated_filepath(image)).open("rb") as file:
            pixels = unpack(file)
        if pixels is None:
            return stock(self, image)
        picture = np.ascontiguousarray(pixels[..., :3]).astype(np.float32)
        picture /= 255.0
        if pixels.shape[2] == 4:
            alpha = pixels[..., 3].astype(np.float32)
            alpha /= 255.0
            mask = 1.0 - torch.from_numpy(alpha)
        else:
            mask = torch.zeros((64, 64), dtype=torch.float32, device="cpu")
        return torch.from_numpy(picture)[None,], mask.unsqueeze(0)

    return load_image


def make_save_images(stock: Callable[..., Any]) -> Callable[..., Any]:
    def save_images(
        self: Any,
        images: Any,
        filename_prefix: str = "ComfyUI",
        prompt: Any = None,
        extra_pnginfo: Any = None,
    ) -> Any:
        layout = _layout_of(images)
        if layout is None:
            return stock(self, images, filename_prefix, prompt, extra_pnginfo)
        folder, filename, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix + self.prefix_append, self.output_dir, layout.width, layout.height
        )
        chunks = _text_chunks(prompt, extra_pnginfo)
        results = []
        for number, image in enumerate(images):
            file = f"{filename.replace('%batch_num%', str(number))}_{counter + number:05}_.png"
            Path(folder, file).write_bytes(pack(layout, chunks, _filler(image.cpu().numpy())))
            results.append({"filename": file, "subfolder": subfolder, "type": self.type})
        return {"ui": {"images": results}}

    return save_images


def _layout_of(images: Any) -> Layout | None:
    if not isinstance(images, torch.Tensor) or images.dim() != 4 or images.dtype not in _FLOATS:
        return None
    count, height, width, channels = images.shape
    layout = Layout(width, height, channels)
    return layout if count and layout.fits and width * height <= MOST_PIXELS else None


def _text_chunks(prompt: Any, extra_pnginfo: Any) -> list[tuple[bytes, bytes]]:
    if args.disable_metadata:
        return []
    texts = {} if extra_pnginfo is None else dict(extra_pnginfo)
    info = PngInfo()
    if prompt is not None:
        info.add_text("prompt", json.dumps(prompt))
    for name, value in texts.items():
        info.add_text(name, json.dumps(value))
    return [(kind, body) for kind, body, *_ in info.chunks]


def _filler(image: np.ndarray) -> Fill:
    """Upstream's arithmetic a few rows at a time, which stay in the processor's cache."""

    def fill(rows: slice, out: np.ndarray) -> None:
        scaled = 255.0 * image[rows]
        np.clip(scaled, 0, 255, out=scaled)
        out[:] = scaled

    return fill
