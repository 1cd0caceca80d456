"""An editor's graph unfolded: each node at its place, with its widgets and their values.

A subgraph is unfolded once for each node that uses it; its nodes get ids like "outer:inner".
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from handler.editor.file import EditorFile, Graph, Node, Slot
from handler.editor.types import NodeType, read_node_type
from handler.editor.widgets import Widget
from handler.errors import InvalidWorkflow

MUTED, BYPASSED = 2, 4
PRIMITIVE = "PrimitiveNode"

_VIRTUAL = frozenset({"Note", "MarkdownNote", "Reroute", PRIMITIVE})
_RENAMED = {
    "T2IAdapterLoader": "ControlNetLoader",
    "ConditioningAverage ": "ConditioningAverage",
    "SDV_img2vid_Conditioning": "SVD_img2vid_Conditioning",
    "Load3DAnimation": "Load3D",
    "Preview3DAnimation": "Preview3D",
}
# Nodes and their inputs. Far above real graphs; without it a small file of subgraphs in
# subgraphs fills the memory.
_MOST_PARTS = 20_000
_MOST_LEVELS = 50

_Item = TypeVar("_Item")


@dataclass(slots=True, eq=False)
class LiveNode:
    """`type` is None for what ComfyUI does not know; `inner` is the subgraph that it stands for."""

    id: str
    node: Node
    level: "Level"
    type: NodeType | None
    slots: tuple[Slot, ...]
    output_types: tuple[str, ...]
    widgets: dict[str, Widget]
    inner: "Level | None" = None

    @property
    def is_virtual(self) -> bool:
        """Whether only the editor knows it."""
        return self.inner is not None or self.node.type in _VIRTUAL

    def widget_of(self, slot: Slot) -> Widget | None:
        return None if slot.widget is None else self.widgets.get(slot.widget)


@dataclass(slots=True, eq=False)
class Level:
    """A graph at its place, its nodes by their ids in it. `owner` is the node that stands for it,
    None for the root."""

    graph: Graph
    owner: LiveNode | None
    nodes: dict[str, LiveNode] = field(default_factory=dict)

    def every_node(self) -> Iterator[LiveNode]:
        """With those of the levels below."""
        for node in self.nodes.values():
            yield node
            if node.inner:
                yield from node.inner.every_node()


def at(items: Sequence[_Item], index: int) -> _Item | None:
    return items[index] if 0 <= index < len(items) else None


def unfold(file: EditorFile, object_info: Mapping[str, Any]) -> Level:
    """Raises InvalidWorkflow for subgraphs without an end."""
    return _Unfolding(file.subgraphs, object_info).level(file.root, None, ())


class _Unfolding:
    def __init__(self, subgraphs: Mapping[str, Graph], object_info: Mapping[str, Any]) -> None:
        self._subgraphs = subgraphs
        self._object_info = object_info
        self._types: dict[str, NodeType | None] = {}
        self._parts = 0

    def level(self, graph: Graph, owner: LiveNode | None, open_types: tuple[str, ...]) -> Level:
        level = Level(graph, owner)
        for node in graph.nodes.values():
            node_id = f"{owner.id}:{node.id}" if owner else node.id
            subgraph = self._subgraphs.get(node.type)
            self._parts += 1 + len(subgraph.inputs if subgraph else node.inputs)
            if self._parts > _MOST_PARTS:
                raise InvalidWorkflow(
                    f"input.workflow unfolds to more than {_MOST_PARTS} nodes and inputs"
                )
            level.nodes[node.id] = (
                self._instance(node_id, node, level, subgraph, open_types)
                if subgraph
                else self._plain(node_id, node, level)
            )
        return level

    def _plain(self, node_id: str, node: Node, level: Level) -> LiveNode:
        node_type = self._type(_RENAMED.get(node.type, node.type))
        if node_type is None:
            return LiveNode(node_id, node, level, None, node.inputs, node.output_types, {})
        widgets = node_type.widgets(node.values)
        slots = node_type.slots(node.inputs, widgets)
        defined = node_type.output_types
        output_types = (*defined, *node.output_types[len(defined) :])
        return LiveNode(node_id, node, level, node_type, slots, output_types, widgets)

    def _instance(
        self, node_id: str, node: Node, level: Level, graph: Graph, open_types: tuple[str, ...]
    ) -> LiveNode:
        if node.type in open_types or len(open_types) == _MOST_LEVELS:
            raise InvalidWorkflow(
                f"input.workflow node {node_id!r}: its subgraph contains itself or too many others",
                node_id=node_id,
            )
        links = {slot.name: slot.link for slot in node.inputs}
        slots = tuple(
            Slot(edge.name, edge.type, links.get(edge.name), widget=edge.name)
            for edge in graph.inputs
        )
        output_types = tuple(edge.type for edge in graph.outputs)
        live = LiveNode(node_id, node, level, None, slots, output_types, {})
        live.inner = self.level(graph, live, (*open_types, node.type))
        _promote(live, live.inner)
        return live

    def _type(self, name: str) -> NodeType | None:
        if name not in self._types:
            definition = None if name in _VIRTUAL else self._object_info.get(name)
            self._types[name] = read_node_type(name, definition) if definition else None
        return self._types[name]


def _promote(instance: LiveNode, inner: Level) -> None:
    """Give a subgraph's node a widget for each input that leads to one inside, with its values."""
    found = {edge.name: _first_widget(edge.links, inner) for edge in inner.graph.inputs}
    sources = {name: source for name, source in found.items() if source}
    instance.widgets = {name: replace(source, name=name) for name, source in sources.items()}
    values = instance.node.values
    if isinstance(values, dict):
        _set_all(instance, values, sources)
        return
    _set_all(instance, dict(zip(instance.widgets, values, strict=False)), sources)
    proxies = _proxies(instance.node)
    _show(instance, proxies)
    pairs = zip(proxies, values, strict=False)
    own = {name: value for (owner, name), value in pairs if owner == "-1" and value is not None}
    _set_all(instance, own, sources)


def _first_widget(links: tuple[int, ...], inner: Level) -> Widget | None:
    for link_id in links:
        link = inner.graph.links.get(link_id)
        target = inner.nodes.get(link.target) if link else None
        slot = at(target.slots, link.target_slot) if link and target else None
        widget = target.widget_of(slot) if target and slot else None
        if widget:
            return widget
    return None


def _set_all(instance: LiveNode, values: Mapping[str, Any], sources: Mapping[str, Widget]) -> None:
    for name, widget in instance.widgets.items():
        if name in values:
            widget.set(values[name])
            # The editor shows one text area in both places.
            if widget.is_text_area:
                sources[name].set(values[name])


def _show(instance: LiveNode, proxies: list[tuple[str, str]]) -> None:
    """A widget that is shown straight from inside takes the place of the one of its name."""
    widgets = instance.widgets
    shown = {name for _, name in proxies}
    own = [name for owner, name in proxies if owner == "-1" and name in widgets]
    kept = [name for name in widgets if name not in shown]
    instance.widgets = {name: widgets[name] for name in (*kept, *own)}


def _proxies(node: Node) -> list[tuple[str, str]]:
    """Pairs of a node inside, or "-1" for the subgraph's own, and the widget's name."""
    given = node.properties.get("proxyWidgets")
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            return []
    if not isinstance(given, list):
        return []
    return [(str(pair[0]), str(pair[1])) for pair in given if isinstance(pair, list) and pair[1:]]
