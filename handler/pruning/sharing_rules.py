"""What is done twice with one result, or for nobody."""

import json
import math
from collections.abc import Mapping

from handler.pruning.graph import PURE, Graph, Link
from handler.workflow import is_link, links

_ENCODER = "TextEncodeQwenImageEditPlus"
_REFERENCE_PIXELS = 1024 * 1024
_REFERENCE_GRID = 8
# ImageScale's bound (MAX_RESOLUTION in ComfyUI's nodes.py).
_MOST_SIDE = 16384


def same_node_twice(graph: Graph) -> None:
    """Users of the later one get the first one's output; loaders would fill memory twice."""
    users, changeable = graph.users(), graph.changeable()
    same: dict[str, str] = {}
    first: dict[str, str] = {}
    for node_id in graph.in_order():
        node = graph.nodes[node_id]
        if node["class_type"] not in PURE or not users[node_id] or node_id in changeable:
            continue
        node["inputs"] = {
            name: [same.get(value[0], value[0]), value[1]] if is_link(value) else value
            for name, value in node["inputs"].items()
        }
        key = json.dumps([node["class_type"], node["inputs"]], sort_keys=True)
        if first.setdefault(key, node_id) != node_id:
            same[node_id] = first[key]
    for user, name, link in list(links(graph.nodes)):
        if link[0] in same:
            graph.nodes[user]["inputs"][name] = [same[link[0]], link[1]]


def batch_repeated_once(graph: Graph) -> None:
    """Users get what was to be repeated."""
    users, changeable = graph.users(), graph.changeable()
    for class_type, name in (("RepeatImageBatch", "image"), ("RepeatLatentBatch", "samples")):
        for node_id, node in graph.of_class(class_type):
            source = node["inputs"].get(name)
            if graph.literal(node, "amount") != 1 or not is_link(source) or source[0] in changeable:
                continue
            for user, user_input in users[node_id]:
                if not graph.may_change(user, user_input, changeable):
                    graph.nodes[user]["inputs"][user_input] = source


def references_encoded_twice(graph: Graph) -> list[str]:
    """Two texts about the same pictures: each picture is encoded once, by nodes that do what the
    text's encoder does, for both."""
    groups: dict[str, list[str]] = {}
    users, changeable = graph.users(), graph.changeable()
    for node_id, node in graph.of_class(_ENCODER):
        if "vae" in node["inputs"] and users[node_id] and node_id not in changeable:
            pictures = {name: node["inputs"].get(name) for name in ("vae", *_pictures(node))}
            groups.setdefault(json.dumps(pictures, sort_keys=True), []).append(node_id)
    return [
        encoder
        for encoders in groups.values()
        if len(encoders) > 1 and _encode_once(graph, encoders, users)
        for encoder in encoders[1:]
    ]


def _pictures(node: dict[str, dict[str, object]]) -> list[str]:
    return [name for name in ("image1", "image2", "image3") if name in node["inputs"]]


def _encode_once(
    graph: Graph, encoders: list[str], users: Mapping[str, list[tuple[str, str]]]
) -> bool:
    node = graph.nodes[encoders[0]]
    names = _pictures(node)
    sizes = [graph.size_of(node, name) for name in names]
    known = [_reference_size(*size) for size in sizes if size]
    are_bounded = all(0 < side <= _MOST_SIDE for size in known for side in size)
    if not names or len(known) < len(names) or not are_bounded:
        return False
    latents = []
    for name, (width, height) in zip(names, known, strict=True):
        scaled = graph.add(
            encoders[0], "ImageScale", image=node["inputs"][name], upscale_method="area",
            width=width, height=height, crop="disabled",
        )  # fmt: skip
        latents.append(
            graph.add(encoders[0], "VAEEncode", pixels=scaled, vae=node["inputs"]["vae"])
        )
    for encoder in encoders:
        del graph.nodes[encoder]["inputs"]["vae"]
        conditioning: Link = [encoder, 0]
        for latent in latents:
            conditioning = graph.add(
                encoder, "ReferenceLatent", conditioning=conditioning, latent=latent
            )
        for user, name in users[encoder]:
            graph.nodes[user]["inputs"][name] = conditioning
    return True


def _reference_size(width: int, height: int) -> tuple[int, int]:
    """The encoder's own rule (comfy_extras/nodes_qwen.py)."""
    scale = math.sqrt(_REFERENCE_PIXELS / (width * height))
    return (
        round(width * scale / _REFERENCE_GRID) * _REFERENCE_GRID,
        round(height * scale / _REFERENCE_GRID) * _REFERENCE_GRID,
    )


def preview_for_nobody(graph: Graph) -> None:
    """A preview that the caller does not get, beside pictures that it gets."""
    users = graph.users()
    if graph.of_class("SaveImage"):
        for node_id, _ in graph.of_class("PreviewImage"):
            if not users[node_id]:
                del graph.nodes[node_id]
