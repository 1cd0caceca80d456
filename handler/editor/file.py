"""The graph that ComfyUI's editor saves, read into checked records.

Two versions of the format exist: 0.4 writes links as lists, 1 as objects. Both are read, mixed too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from handler.errors import InvalidWorkflow

# The ids that links give to the two edges of a subgraph.
SUBGRAPH_INPUT = "-10"

_LINK_KEYS = ("id", "origin_id", "origin_slot", "target_id", "target_slot")


@dataclass(frozen=True, slots=True)
class Slot:
    """An input of a node. `widget` names the widget that the slot stands for."""

    name: str
    type: str
    link: int | None = None
    widget: str | None = None


@dataclass(frozen=True, slots=True)
class Link:
    origin: str
    origin_slot: int
    target: str
    target_slot: int


@dataclass(frozen=True, slots=True)
class Node:
    id: str
    type: str
    title: str
    mode: int
    inputs: tuple[Slot, ...]
    output_types: tuple[str, ...]
    values: list[Any] | dict[str, Any]
    properties: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Edge:
    """An input or output of a subgraph, seen from inside."""

    name: str
    type: str
    links: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """One level of nodes. `inputs` and `outputs` are those of a subgraph."""

    nodes: Mapping[str, Node]
    links: Mapping[int, Link]
    inputs: tuple[Edge, ...] = ()
    outputs: tuple[Edge, ...] = ()


@dataclass(frozen=True, slots=True)
class EditorFile:
    """`subgraphs` maps the id of a definition, which is the type of its nodes, to its graph."""

    root: Graph
    subgraphs: Mapping[str, Graph] = field(default_factory=dict)


def read_editor_file(value: Any) -> EditorFile:
    """Raises InvalidWorkflow."""
    subgraphs: dict[str, Graph] = {}
    waiting = [_Reader(value, "input.workflow")]
    root = _graph(waiting[0])
    while waiting:
        reader = waiting.pop()
        for definition in reader.inner("definitions").each("subgraphs"):
            subgraphs[definition.text("id")] = _graph(definition)
            waiting.append(definition)
    return EditorFile(root, subgraphs)


class _Reader:
    """An object of the file and where it is, so that a fault says what is wrong where."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, Mapping):
            raise InvalidWorkflow(f"{where} must be an object")
        self.value = value
        self.where = where

    def fault(self, key: str, expected: str) -> InvalidWorkflow:
        return InvalidWorkflow(f"{self.where}: {key} must be {expected}")

    def text(self, key: str, default: str | None = None) -> str:
        value = self.value.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            raise self.fault(key, "a text")
        return value

    def number(self, key: str, default: int | None = None) -> int:
        value = self.value.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, str) and value.isdecimal() and value.isascii() and len(value) < 10:
            return int(value)
        if type(value) is not int:
            raise self.fault(key, "an integer")
        return value

    def id(self, key: str) -> str:
        value = self.value.get(key)
        if type(value) is not int and not isinstance(value, str):
            raise self.fault(key, "a number or a text")
        return str(value)

    def inner(self, key: str) -> "_Reader":
        return _Reader(self.value.get(key) or {}, f"{self.where}.{key}")

    def items(self, key: str) -> list[Any]:
        value = self.value.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.fault(key, "a list")
        return value

    def each(self, key: str) -> list["_Reader"]:
        return [_Reader(item, f"{self.where}.{key}[{i}]") for i, item in enumerate(self.items(key))]


def _graph(reader: _Reader) -> Graph:
    if not isinstance(reader.value.get("nodes"), list):
        raise reader.fault("nodes", "a list")
    nodes: dict[str, Node] = {}
    for item in reader.each("nodes"):
        node = _node(item)
        if node.id in nodes:
            raise InvalidWorkflow(f"{reader.where} has two nodes {node.id!r}", node_id=node.id)
        nodes[node.id] = node
    return Graph(
        nodes,
        dict(_link(item, f"{reader.where}.links") for item in _link_items(reader)),
        tuple(_edge(item) for item in reader.each("inputs")),
        tuple(_edge(item) for item in reader.each("outputs")),
    )


def _link_items(reader: _Reader) -> list[Any]:
    links = reader.value.get("links")
    items = list(links.values()) if isinstance(links, Mapping) else reader.items("links")
    return [item for item in items if item is not None]


def _link(item: Any, where: str) -> tuple[int, Link]:
    if isinstance(item, list):
        item = dict(zip(_LINK_KEYS, item, strict=False))
    reader = _Reader(item, where)
    link = Link(
        reader.id("origin_id"),
        reader.number("origin_slot"),
        reader.id("target_id"),
        reader.number("target_slot"),
    )
    if link.origin_slot < 0 or link.target_slot < 0:
        raise reader.fault("a slot", "zero or more")
    return reader.number("id"), link


def _node(reader: _Reader) -> Node:
    values = reader.value.get("widgets_values")
    if values is not None and not isinstance(values, list | dict):
        raise reader.fault("widgets_values", "a list or an object")
    return Node(
        reader.id("id"),
        reader.text("type"),
        reader.text("title", ""),
        reader.number("mode", 0),
        tuple(_slot(item) for item in reader.each("inputs")),
        tuple(_type(item) for item in reader.each("outputs")),
        values or [],
        reader.inner("properties").value,
    )


def _slot(reader: _Reader) -> Slot:
    link = None if reader.value.get("link") is None else reader.number("link")
    widget = reader.inner("widget").value.get("name")
    if widget is not None and not isinstance(widget, str):
        raise reader.fault("widget", "an object with a name")
    return Slot(reader.text("name", ""), _type(reader), link, widget)


def _edge(reader: _Reader) -> Edge:
    links = reader.items("linkIds")
    if any(type(link) is not int for link in links):
        raise reader.fault("linkIds", "a list of integers")
    return Edge(reader.text("name", ""), _type(reader), tuple(links))


def _type(reader: _Reader) -> str:
    """Nodes of old custom packs have lists and numbers for types; 0 is any type."""
    value = reader.value.get("type")
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return "*" if value in (None, 0, "") else str(value)
