"""The links between the nodes of a ComfyUI workflow in API format."""

import graphlib
from collections.abc import Iterator, Mapping
from typing import Any

from handler.errors import InvalidWorkflow

# ComfyUI walks chains of nodes by recursion (execution.get_ordered_ancestry) where nothing catches
# a RecursionError: its executing thread would end.
_LONGEST_CHAIN = 300


def check_links(nodes: Mapping[str, Mapping[str, Any]]) -> None:
    """ComfyUI answers a dangling link with a bare KeyError and runs into a loop unprepared."""
    for node_id, name, link in links(nodes):
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


def check_order(nodes: Mapping[str, Mapping[str, Any]]) -> None:
    sources: dict[str, set[str]] = {}
    for node_id, _, link in links(nodes):
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


def links(nodes: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, list[Any]]]:
    for node_id, node in nodes.items():
        for name, value in node["inputs"].items():
            if is_link(value):
                yield node_id, name, value


def is_link(value: Any) -> bool:
    """As ComfyUI sees it (comfy_execution/graph_utils.py), and a node given by a number as well."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and (isinstance(value[0], str) or type(value[0]) is int)
        and isinstance(value[1], int | float)
    )
