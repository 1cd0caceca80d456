"""The graph that ComfyUI's editor saves, as the API format that its own export would give.

Behaves as comfyui-frontend-package 1.32.9. Where that would crash, or send what nobody can mean,
the nearest sensible answer or InvalidWorkflow takes its place.
"""

import functools
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from handler.editor.file import SUBGRAPH_INPUT, Node, Slot, read_editor_file
from handler.editor.levels import BYPASSED, MUTED, PRIMITIVE, Level, LiveNode, at, unfold
from handler.editor.links import source_of
from handler.editor.text import Choose, replace_patterns, resolve_dynamic_prompt
from handler.editor.widgets import UNSET, Widget, script_text
from handler.errors import InvalidWorkflow
from handler.nearest import nearest

# Their filename_prefix may hold patterns such as %date:yyyy%.
_SAVERS = frozenset(
    [
        *("SaveImage", "SaveVideo", "SaveAnimatedWEBP", "SaveWEBM", "SaveAudio", "SaveGLB"),
        *("SaveAnimatedPNG", "CLIPSave", "VAESave", "ModelSave", "LoraSave", "SaveLatent"),
    ]
)


def convert_editor_graph(
    graph: Mapping[str, Any],
    object_info: Mapping[str, Any],
    *,
    choose: Choose = random.choice,
    now: datetime | None = None,
) -> dict[str, dict[str, Any]]:
    """`graph` as `{node_id: {"class_type": str, "inputs": {...}}}`; a node of a subgraph has the
    id "outer:inner".

    `object_info` is what ComfyUI answers to /object_info. `choose` takes one option of a dynamic
    prompt `{a|b}`; `now` is the time for %date% in file names. Raises InvalidWorkflow.
    """
    root = unfold(read_editor_file(graph), object_info)
    texts = _Texts(root, choose, now or datetime.now(UTC))
    _pass_values_on(root, texts)
    sent = [node for node in root.every_node() if _is_sent(node, object_info)]
    ids = {node.id for node in sent}
    return {
        node.id: {
            "class_type": node.type.name if node.type else node.node.type,
            "inputs": _inputs(node, texts, ids),
        }
        for node in sent
    }


def _is_sent(node: LiveNode, object_info: Mapping[str, Any]) -> bool:
    """Raises InvalidWorkflow for a node that ComfyUI should run and does not know."""
    if node.is_virtual or node.node.mode in (MUTED, BYPASSED):
        return False
    if node.type is None:
        raise _unknown(node, object_info)
    return True


def _unknown(node: LiveNode, object_info: Mapping[str, Any]) -> InvalidWorkflow:
    name = node.node.type[:100]
    if name.startswith(("workflow/", "workflow>")):
        advice = "it is a group node; convert it to a subgraph in the editor"
    else:
        near = nearest(name, object_info, most=3)
        advice = f"nearest are {', '.join(near)}" if near else "no known type is like it"
    return InvalidWorkflow(
        f"input.workflow node {node.id!r}: this ComfyUI has no node type {name!r}; {advice}",
        node_id=node.id,
        class_type=name,
    )


def _inputs(node: LiveNode, texts: "_Texts", sent: set[str]) -> dict[str, Any]:
    """`sent` are the ids of the nodes that are in the answer; links to others are left out."""
    inputs = {
        name: _wrapped(texts.sent(node, widget))
        for name, widget in node.widgets.items()
        if widget.sent
    }
    for index, slot in enumerate(node.slots):
        source = source_of(node, index)
        if isinstance(source, Widget):
            inputs[slot.name] = _wrapped(source.value)
        elif source:
            origin, output = source
            inputs[slot.name] = [origin.id, output] if origin.id in sent else UNSET
    return {name: value for name, value in inputs.items() if value is not UNSET}


def _wrapped(value: Any) -> Any:
    """ComfyUI would take a bare list for a link."""
    return {"__value__": value} if isinstance(value, list) else value


def _pass_values_on(level: Level, texts: "_Texts") -> None:
    """Put the values of primitive nodes, and of a subgraph's own widgets, where they belong."""
    for node in level.nodes.values():
        for slot in node.slots:
            widget = node.widget_of(slot)
            if widget and slot.link is not None:
                _take_value(widget, slot, level, texts)
    for node in level.nodes.values():
        if node.inner:
            _pass_values_on(node.inner, texts)


def _take_value(widget: Widget, slot: Slot, level: Level, texts: "_Texts") -> None:
    link = level.graph.links.get(slot.link or 0)
    if link and link.origin == SUBGRAPH_INPUT and level.owner:
        outer = at(level.owner.slots, link.origin_slot)
        given = level.owner.widget_of(outer) if outer else None
        if given:
            widget.set(given.value)
    elif link and link.origin in level.nodes:
        _take_primitive(widget, level.nodes[link.origin].node, texts)


def _take_primitive(widget: Widget, primitive: Node, texts: "_Texts") -> None:
    values = primitive.values
    if primitive.type != PRIMITIVE or not isinstance(values, list) or not values:
        return
    value = values[0]
    if isinstance(value, str) and primitive.properties.get("Run widget replace on values"):
        value = texts.replaced(value)
    widget.set_stepped(value)


class _Texts:
    """The texts that the editor changes when it exports."""

    def __init__(self, root: Level, choose: Choose, now: datetime) -> None:
        self._root = root
        self._choose = choose
        self._now = now

    def sent(self, node: LiveNode, widget: Widget) -> Any:
        value = widget.value
        if not isinstance(value, str):
            return value
        spec = widget.spec
        if spec and spec.widget_type == "STRING" and spec.options.get("dynamicPrompts") is True:
            value = resolve_dynamic_prompt(value, self._choose)
        if widget.name == "filename_prefix" and _class_of(node) in _SAVERS:
            value = self.replaced(value)
        return value

    def replaced(self, text: str) -> str:
        return replace_patterns(text, self._look_up, self._now)

    def _look_up(self, name: str, widget_name: str) -> str | None:
        node = self._by_name.get(name)
        widget = node.widgets.get(widget_name) if node else None
        if not widget:
            return None
        return "" if widget.value in (None, UNSET) else str(script_text(widget.value))

    @functools.cached_property
    def _by_name(self) -> Mapping[str, LiveNode]:
        found: dict[str, LiveNode] = {}
        for name_of in (_search_name, _title):
            for node in self._root.every_node():
                found.setdefault(name_of(node), node)
        return found


def _search_name(node: LiveNode) -> str:
    default = "" if _class_of(node) in _SAVERS else _class_of(node)
    name = node.node.properties.get("Node name for S&R", default)
    return name if isinstance(name, str) else ""


def _title(node: LiveNode) -> str:
    return node.node.title or (node.type.title if node.type else "")


def _class_of(node: LiveNode) -> str:
    return node.type.name if node.type else ""
