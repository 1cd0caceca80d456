"""A prompt and its pictures, prepared for ComfyUI: what it loads, the workflow, and what has to be
done with the picture that comes of it."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from PIL import Image

from handler.contract import Fit, OutputSize
from handler.errors import InvalidImage, InvalidInput
from handler.job.photo_finish import Patching, PhotoFinish
from handler.pictures import (
    InputImage,
    Mask,
    Photo,
    color_profile,
    cut,
    extend,
    noise_mask,
    prescale,
    read_mask,
    read_photo,
)
from handler.pruning import PrunedWork
from handler.workflow import (
    PromptEdit,
    Sampling,
    Workflow,
    aligned_size,
    compile_edit,
    cropped_to,
    extended_to,
    graph_version,
    piece_size,
    sampling_of,
)

# What is drawn beyond what is pasted, in sampled pixels: one and a half of the model's patches. The
# mask is brought to the latent's coarse grid, and half-masked cells would show the VAE's blur.
_GROW = 24
# A smaller part of a side than this is a matter of rounding, not of another ratio.
_LEAST_EXTENSION = 0.01


@dataclass(frozen=True, slots=True)
class Prepared:
    """`pictures` are those that the workflow loads; `graph` names the compiled graph, `pruned` is
    what was left out of a caller's."""

    workflow: Workflow
    pictures: Sequence[InputImage]
    graph: str | None = None
    finish: PhotoFinish | None = None
    pruned: tuple[PrunedWork, ...] = ()


def prepare_edit(
    edit: PromptEdit, pictures: Sequence[InputImage], mask: InputImage | None
) -> Prepared:
    """Takes up to a few seconds, so this does not belong on an event loop. Raises InvalidImage, and
    InvalidInput where there is nothing to draw."""
    if mask is not None or edit.fit is Fit.EXTEND:
        return _masked(edit, pictures, mask)
    first = pictures[0]
    size = None
    if edit.size is OutputSize.PHOTO:
        size = first.width, first.height
        if edit.ratio:
            size = cropped_to(edit.ratio, *size)[2:]
    profile = color_profile(first.data)
    finish = PhotoFinish(size, profile) if size or profile else None
    nodes, pictures = _compiled(edit, pictures)
    return Prepared(Workflow(nodes), pictures, graph_version(edit), finish)


def _compiled(
    edit: PromptEdit, pictures: Sequence[InputImage]
) -> tuple[dict[str, dict[str, Any]], Sequence[InputImage]]:
    """The graph, and its pictures scaled already where they are large."""
    if edit.fit is Fit.TEMPLATE:
        return compile_edit(edit, pictures), pictures
    sampling = sampling_of(edit, pictures[0])
    if first := prescale(pictures[0], sampling.size, sampling.crop):
        sampling = Sampling(sampling.size)
    others = [
        prescale(picture, aligned_size(picture.width, picture.height)) or picture
        for picture in pictures[1:]
    ]
    scaled = [first or pictures[0], *others]
    return compile_edit(edit, scaled, sampling), scaled


def _masked(
    edit: PromptEdit, pictures: Sequence[InputImage], mask_picture: InputImage | None
) -> Prepared:
    photo = read_photo(pictures[0].data)
    mask = (
        read_mask(mask_picture.data, photo.size)
        if mask_picture
        else np.zeros(photo.size[::-1], dtype=np.bool_)
    )
    shown = photo
    if edit.ratio and edit.fit is Fit.EXTEND:
        photo, shown, mask = _extended(edit, photo, mask)
    elif edit.ratio:
        left, top, width, height = cropped_to(edit.ratio, *photo.size)
        rows, columns = slice(top, top + height), slice(left, left + width)
        if mask.any() and not mask[rows, columns].any():
            raise InvalidImage(
                f"input.ratio {edit.ratio} crops the photo, and what the mask allows to change "
                "lies outside that; leave input.ratio out, or set input.fit 'extend'"
            )
        photo, mask = photo.part(rows, columns), mask[rows, columns]
        shown = photo
    piece = cut(shown, mask, whole=edit.fit in {Fit.WHOLE, Fit.EXTEND})
    size = piece_size(*piece.box.size)
    drawn = noise_mask(piece.mask, size, _GROW)
    # What ComfyUI's own node would make of it, but while the GPU is on the job before.
    seen = piece.crop.as_rgb().resize(size, Image.Resampling.LANCZOS)
    loaded = [_input(pictures[0].name, seen), *pictures[1:]]
    mask_name = None
    if not drawn.all():
        mask_name = _free_name({picture.name for picture in pictures})
        loaded.append(_input(mask_name, Image.fromarray(drawn).convert("L")))
    nodes = compile_edit(edit, loaded[: len(pictures)], Sampling(size, noise_mask=mask_name))
    finish = PhotoFinish(patching=Patching(photo, mask, piece.box))
    return Prepared(Workflow(nodes), loaded, graph_version(edit), finish)


def _extended(edit: PromptEdit, photo: Photo, mask: Mask) -> tuple[Photo, Photo, Mask]:
    assert edit.ratio
    width, height = photo.size
    window = extended_to(edit.ratio, width, height)
    if max(window.width / width, window.height / height) < 1 + _LEAST_EXTENSION:
        raise InvalidInput(
            f"input.fit 'extend' has nothing to add: the picture has the ratio {edit.ratio} "
            "already; leave input.fit and input.ratio out"
        )
    left, top = -window.left, -window.top
    canvas = extend(photo, left, top, window.width, window.height)
    changeable = canvas.added
    changeable[top : top + height, left : left + width] |= mask
    return canvas.photo, canvas.shown, changeable


def _input(name: str, picture: Image.Image) -> InputImage:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return InputImage(name, buffer.getvalue(), "png", *picture.size)


def _free_name(taken: set[str]) -> str:
    return next(name for n in count() if (name := f"mask-{n}.png") not in taken)
