"""A ComfyUI workflow in API format: its parsing and its shape.

ComfyUI checks node types and values itself (`POST /prompt`); only what it answers badly, or what
the worker needs to know, is looked at here.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from handler.contract import kind_of
from handler.errors import InvalidWorkflow
from handler.nearest import LONGEST_NAME, shown
from handler.workflow.files import LoadedPicture, check_files, loaded_pictures, nodes_for_job
from handler.workflow.links import check_links, check_order

_SEED_INPUTS = ("seed", "noise_seed")
# Workflows need a handful. ComfyUI's cache walks values by recursion (caching.to_hashable) where
# nothing catches a RecursionError: its executing thread would end.
_MOST_LEVELS = 100
_HOW_TO_EXPORT = "in the editor use Workflow > Export (API)"


@dataclass(frozen=True, slots=True)
class Workflow:
    """`nodes` maps a node id to `{"class_type": str, "inputs": {...}, ...}`."""

    nodes: Mapping[str, Mapping[str, Any]]

    @property
    def loaded_pictures(self) -> list[LoadedPicture]:
        return loaded_pictures(self.nodes)

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
        `files` maps a picture's name to its file's name in that folder."""
        return nodes_for_job(self.nodes, folder, files)


@dataclass(frozen=True, slots=True)
class EditorGraph:
    """The graph that the editor saves. Which input a saved value belongs to, only the running
    ComfyUI's /object_info tells: editor_graph.py makes a Workflow of the two."""

    graph: Mapping[str, Any]


def parse_workflow(value: Any, most_nodes: int = 1000) -> Workflow | EditorGraph:
    """Check the shape of `input.workflow`, an object or its JSON text. Raises InvalidWorkflow."""
    if isinstance(value, str):
        value = _parse_text(value)
    if not isinstance(value, dict):
        raise InvalidWorkflow(
            f"input.workflow must be an object of nodes in API format, not {kind_of(value)}"
        )
    if isinstance(value.get("nodes"), list):
        _check_count(len(value["nodes"]), most_nodes)
        _check_is_json(value)
        return EditorGraph(value)
    if not value:
        raise InvalidWorkflow("input.workflow has no nodes")
    if isinstance(value.get("prompt"), dict) and "class_type" not in value["prompt"]:
        raise InvalidWorkflow(
            "input.workflow looks like a body of ComfyUI's /prompt; send the value of its `prompt`"
        )
    _check_count(len(value), most_nodes)
    _check_is_json(value)
    return parse_nodes(value, most_nodes)


def parse_nodes(value: Mapping[str, Any], most_nodes: int = 1000) -> Workflow:
    """Nodes by their ids, in API format. Raises InvalidWorkflow."""
    _check_count(len(value), most_nodes)
    nodes = {node_id: _parse_node(node_id, node) for node_id, node in value.items()}
    check_links(nodes)
    check_order(nodes)
    return Workflow(nodes)


def _check_count(nodes: int, most_nodes: int) -> None:
    if nodes > most_nodes:
        raise InvalidWorkflow(
            f"input.workflow has {nodes} nodes; the limit of this worker is {most_nodes} "
            "(WORKER_MAX_NODES)",
            nodes=nodes,
            limit_nodes=most_nodes,
        )


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
        # Escaped, a lone surrogate would pass, which nothing can write as UTF-8 afterwards.
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
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
    where = f"input.workflow node {shown(node_id)}"
    if len(node_id) > LONGEST_NAME:
        raise InvalidWorkflow(f"{where}: an id has at most {LONGEST_NAME} characters")
    if not isinstance(node, dict):
        raise InvalidWorkflow(f"{where} must be an object, not {kind_of(node)}", node_id=node_id)
    class_type = node.get("class_type")
    if not isinstance(class_type, str) or not class_type:
        raise InvalidWorkflow(
            f"{where} has no class_type; is this API format? ({_HOW_TO_EXPORT})", node_id=node_id
        )
    if len(class_type) > LONGEST_NAME:
        raise InvalidWorkflow(f"{where}: there is no node type {shown(class_type)}")
    inputs = node.get("inputs", {})
    if not isinstance(inputs, dict):
        raise InvalidWorkflow(
            f"{where} ({class_type}): inputs must be an object, not {kind_of(inputs)}",
            node_id=node_id,
            class_type=class_type,
        )
    inputs = {name: _unwrapped(value) for name, value in inputs.items()}
    check_files(node_id, class_type, inputs)
    return {**node, "inputs": inputs}


def _unwrapped(value: Any) -> Any:
    """ComfyUI unwraps these too, after which nobody would look at them again; it needs the wrap
    only to tell a list from a link."""
    while isinstance(value, dict) and "__value__" in value:
        if isinstance(value["__value__"], list):
            break
        value = value["__value__"]
    return value
