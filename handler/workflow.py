"""A ComfyUI workflow in API format: its shape, the pictures it loads, the form a job runs. Pure.

ComfyUI checks node types and values itself (`POST /prompt`); only what it answers badly, or what
the worker needs to know, is looked at here.
"""

import copy
import graphlib
import json
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from handler.errors import InvalidWorkflow

# Core nodes that open a file whose name is an input; ComfyUI joins it to a folder and does not look
# whether it stays inside (folder_paths.get_annotated_filepath).
_PICTURE_LOADERS = {"LoadImage": "image", "LoadImageMask": "image", "LoadImageOutput": "image"}
_OTHER_LOADERS = frozenset({"LoadLatent", "LoadAudio", "LoadVideo", "Load3D", "WebcamCapture"})
_SEED_INPUTS = ("seed", "noise_seed")
# Workflows need a handful. ComfyUI's cache walks values by recursion (caching.to_hashable) where
# nothing catches a RecursionError: its executing thread would end.
_MOST_LEVELS = 100
# The same holds for chains of nodes (execution.get_ordered_ancestry).
_LONGEST_CHAIN = 300
_HOW_TO_EXPORT = "in the editor use Workflow > Export (API)"


@dataclass(frozen=True, slots=True)
class LoadedPicture:
    """One place where the workflow loads a picture by name."""

    node_id: str
    class_type: str
    name: str


@dataclass(frozen=True, slots=True)
class Workflow:
    """`nodes` maps a node id to `{"class_type": str, "inputs": {...}, ...}`."""

    nodes: Mapping[str, Mapping[str, Any]]

    @property
    def loaded_pictures(self) -> list[LoadedPicture]:
        return [
            LoadedPicture(node_id, node["class_type"], _without_folder_note(node["inputs"][name]))
            for node_id, node in self.nodes.items()
            if (name := _PICTURE_LOADERS.get(node["class_type"])) and name in node["inputs"]
        ]

    @property
    def seed(self) -> int | None:
        """The seed, when the workflow holds exactly one."""
        seeds = [
            node["inputs"][key]
            for node in self.nodes.values()
            for key in _SEED_INPUTS
            if type(node["inputs"].get(key)) is int
        ]
        return seeds[0] if len(seeds) == 1 else None

    def for_job(self, folder: str, files: Mapping[str, str]) -> dict[str, Any]:
        """The prompt that ComfyUI gets: pictures and results under the job's own `folder`.

        `files` maps a picture's name to its file's name in that folder. Since the folder is new
        for each job, ComfyUI's cache never answers with files of an earlier job, which are gone.
        """
        nodes: dict[str, Any] = copy.deepcopy(dict(self.nodes))
        for picture in self.loaded_pictures:
            nodes[picture.node_id]["inputs"]["image"] = f"{folder}/{files[picture.name]}"
        for node_id in list(nodes):
            inputs = nodes[node_id]["inputs"]
            prefix = inputs.get("filename_prefix")
            if isinstance(prefix, str | int | float):
                inputs["filename_prefix"] = f"{folder}/{_inside(str(prefix))}"
            elif _is_link(prefix):
                joined = f"{node_id}:{folder}:prefix"
                nodes[joined] = {
                    "class_type": "StringConcatenate",
                    "inputs": {"string_a": f"{folder}/", "string_b": prefix, "delimiter": ""},
                }
                inputs["filename_prefix"] = [joined, 0]
        return nodes


@dataclass(frozen=True, slots=True)
class EditorGraph:
    """The graph that the editor saves. Which input a saved value belongs to, only the running
    ComfyUI's /object_info tells: editor_graph.py makes a Workflow of the two."""

    graph: Mapping[str, Any]


def parse_workflow(value: Any) -> Workflow | EditorGraph:
    """Check the shape of `input.workflow`, an object or its JSON text. Raises InvalidWorkflow."""
    if isinstance(value, str):
        value = _parse_text(value)
    if not isinstance(value, dict):
        raise InvalidWorkflow(
            f"input.workflow must be an object of nodes in API format, not {_kind(value)}"
        )
    if isinstance(value.get("nodes"), list):
        _check_is_json(value)
        return EditorGraph(value)
    if not value:
        raise InvalidWorkflow("input.workflow has no nodes")
    if isinstance(value.get("prompt"), dict) and "class_type" not in value["prompt"]:
        raise InvalidWorkflow(
            "input.workflow looks like a body of ComfyUI's /prompt; send the value of its `prompt`"
        )
    _check_is_json(value)
    return parse_nodes(value)


def parse_nodes(value: Mapping[str, Any]) -> Workflow:
    """Nodes by their ids, in API format. Raises InvalidWorkflow."""
    nodes = {node_id: _parse_node(node_id, node) for node_id, node in value.items()}
    _check_links(nodes)
    _check_order(nodes)
    return Workflow(nodes)


def _parse_text(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError as exc:
        raise InvalidWorkflow("input.workflow is nested too deeply") from exc
    except ValueError as exc:
        raise InvalidWorkflow(f"input.workflow is a text that is not JSON: {exc}") from exc


def _check_is_json(value: dict[str, Any]) -> None:
    if _is_too_deep(value):
        raise InvalidWorkflow("input.workflow is nested too deeply")
    try:
        json.dumps(value, allow_nan=False)
    except (ValueError, TypeError) as exc:
        raise InvalidWorkflow(f"input.workflow holds a value that JSON has not: {exc}") from exc


def _is_too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_MOST_LEVELS):
        level = [child for item in level for child in _children(item)]
    return bool(level)


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _parse_node(node_id: str, node: Any) -> dict[str, Any]:
    where = f"input.workflow node {node_id!r}"
    if not isinstance(node, dict):
        raise InvalidWorkflow(f"{where} must be an object, not {_kind(node)}", node_id=node_id)
    class_type = node.get("class_type")
    if not isinstance(class_type, str) or not class_type:
        raise InvalidWorkflow(
            f"{where} has no class_type; is this API format? ({_HOW_TO_EXPORT})", node_id=node_id
        )
    inputs = node.get("inputs", {})
    if not isinstance(inputs, dict):
        raise InvalidWorkflow(
            f"{where} ({class_type}): inputs must be an object, not {_kind(inputs)}",
            node_id=node_id,
            class_type=class_type,
        )
    inputs = {name: _unwrapped(value) for name, value in inputs.items()}
    _check_opens_no_other_file(where, class_type, inputs)
    return {**node, "inputs": inputs}


def _unwrapped(value: Any) -> Any:
    """ComfyUI unwraps these too, after which nobody would look at them again; it needs the wrap
    only to tell a list from a link."""
    while isinstance(value, dict) and "__value__" in value:
        if isinstance(value["__value__"], list):
            break
        value = value["__value__"]
    return value


def _check_opens_no_other_file(where: str, class_type: str, inputs: Mapping[str, Any]) -> None:
    name = _PICTURE_LOADERS.get(class_type)
    if name and name in inputs and not isinstance(inputs[name], str):
        raise InvalidWorkflow(
            f"{where} ({class_type}): {name} must be the name of a picture in input.images"
        )
    if class_type in _OTHER_LOADERS:
        raise InvalidWorkflow(
            f"{where}: {class_type} opens a file that a job can't bring; only pictures can be sent"
        )


def _check_links(nodes: Mapping[str, Mapping[str, Any]]) -> None:
    """ComfyUI answers a dangling link with a bare KeyError and runs into a loop unprepared."""
    for node_id, name, link in _links(nodes):
        if not isinstance(link[0], str):
            raise InvalidWorkflow(
                f"input.workflow node {node_id!r}: {name} is linked to node {link[0]}; "
                f'the id of a node is a text: ["{link[0]}", {link[1]}]',
                node_id=node_id,
                input=name,
            )
        if link[0] not in nodes:
            raise InvalidWorkflow(
                f"input.workflow node {node_id!r} ({nodes[node_id]['class_type']}): {name} is "
                f"linked to node {link[0]!r}, which is not in the workflow",
                node_id=node_id,
                input=name,
            )
        if type(link[1]) is not int or link[1] < 0:
            raise InvalidWorkflow(
                f"input.workflow node {node_id!r}: {name} is linked to output {link[1]}; "
                "outputs are counted 0, 1, 2",
                node_id=node_id,
                input=name,
            )


def _check_order(nodes: Mapping[str, Mapping[str, Any]]) -> None:
    sources: dict[str, set[str]] = {}
    for node_id, _, link in _links(nodes):
        sources.setdefault(node_id, set()).add(link[0])
    try:
        order = list(graphlib.TopologicalSorter(sources).static_order())
    except graphlib.CycleError as exc:
        loop = " -> ".join(exc.args[1])
        raise InvalidWorkflow(f"input.workflow has nodes that wait for each other: {loop}") from exc
    chain: dict[str, int] = {}
    for node_id in order:
        chain[node_id] = 1 + max((chain[source] for source in sources.get(node_id, ())), default=0)
    if max(chain.values(), default=0) > _LONGEST_CHAIN:
        raise InvalidWorkflow(f"input.workflow has a chain of over {_LONGEST_CHAIN} nodes")


def _links(nodes: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, list[Any]]]:
    for node_id, node in nodes.items():
        for name, value in node["inputs"].items():
            if _is_link(value):
                yield node_id, name, value


def _is_link(value: Any) -> bool:
    """As ComfyUI sees it (comfy_execution/graph_utils.py), and a node given by a number as well."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and (isinstance(value[0], str) or type(value[0]) is int)
        and isinstance(value[1], int | float)
    )


def _without_folder_note(name: str) -> str:
    """The editor may write "photo.png [input]" (ComfyUI folder_paths.annotated_filepath)."""
    return name.removesuffix("[input]").rstrip() if name.endswith(" [input]") else name


def _inside(prefix: str) -> str:
    """`prefix` as a path that can't leave the folder it is put in."""
    return posixpath.normpath(f"/{prefix}").lstrip("/") or "ComfyUI"


def _kind(value: Any) -> str:
    names = {
        list: "a list",
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        type(None): "null",
        dict: "an object",
    }
    return names.get(type(value), type(value).__name__)
