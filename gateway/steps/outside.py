"""The promise of a mask, held to the bytes that are delivered."""

from collections.abc import Mapping
from typing import Any

from gateway.errors import ChangedOutsideMask
from gateway.job import Job
from gateway.objects import ObjectStore
from handler.pictures import changed_outside, read_mask, read_photo


def count_outside(
    job: Job, result: Mapping[str, Any], objects: ObjectStore, counted: Any
) -> int | None:
    """How many pixels of a masked job's stored `result` differ from its photo's outside the mask,
    which is 0: raises ChangedOutsideMask otherwise. `counted` is the worker's own number, which
    stands where a ratio has made another picture of the photo. None where nothing can be counted:
    without a mask or in a format that is lossy."""
    pictures = job.pictures if isinstance(job.pictures, Mapping) else {}
    mask, images = pictures.get("mask"), pictures.get("images")
    if not mask or not images or result["content_type"] != "image/png":
        return None
    found = counted if isinstance(counted, int) and counted >= 0 else None
    if "key" in mask and "key" in images[0]:
        photo = read_photo(_read(objects, images[0]["key"]))
        if photo.size == (result["width"], result["height"]):
            allowed = read_mask(_read(objects, mask["key"]), photo.size)
            found = changed_outside(photo, read_photo(_read(objects, result["key"])), allowed)
    if found:
        raise ChangedOutsideMask(f"the edit changed {found} pixels outside the mask")
    return found


def _read(objects: ObjectStore, key: str) -> bytes:
    with objects.open(key) as file:
        return file.read()
