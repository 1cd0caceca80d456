"""Where the value of a node's input comes from, through all that ComfyUI never sees."""

from handler.editor.file import SUBGRAPH_INPUT, Link
from handler.editor.levels import BYPASSED, LiveNode, at
from handler.editor.widgets import Widget
from handler.errors import InvalidWorkflow

# An output that runs, the widget of a subgraph's node, or nothing.
Source = tuple[LiveNode, int] | Widget | None
# An input to look behind, or an output; with the type that is wanted there, None for its own.
_Step = tuple[str, LiveNode, int, str | None]

_ANY = ("*", "")
# Far above real graphs. Each input walks its own way, so a file of long ways would take minutes.
_MOST_STEPS = 500


def source_of(node: LiveNode, index: int) -> Source:
    """What feeds input `index` of `node`. Raises InvalidWorkflow."""
    place: _Step | Source = ("input", node, index, None)
    seen: set[tuple[str, str, int]] = set()
    while isinstance(place, tuple) and len(place) == 4:
        side, here, slot, kind = place
        if (side, here.id, slot) in seen:
            raise _fault(node, index, f"is fed by itself through node {here.id!r}")
        seen.add((side, here.id, slot))
        if len(seen) > _MOST_STEPS:
            raise _fault(node, index, f"is linked through more than {_MOST_STEPS} places")
        behind = _behind_input if side == "input" else _behind_output
        place = behind(here, slot, kind)
    return place


def _behind_input(node: LiveNode, index: int, kind: str | None) -> _Step | Source:
    slot = at(node.slots, index)
    if slot is None or slot.link is None:
        return None
    link = node.level.graph.links.get(slot.link)
    if not link:
        raise _fault(node, index, f"has the link {slot.link}, which is not in the graph")
    owner = node.level.owner
    if owner and link.origin == SUBGRAPH_INPUT:
        return _behind_edge(owner, link, node, index)
    origin = node.level.nodes.get(link.origin)
    if not origin:
        raise _fault(node, index, f"is linked to node {link.origin!r}, which is not in the graph")
    return "output", origin, link.origin_slot, kind or slot.type


def _behind_edge(owner: LiveNode, link: Link, node: LiveNode, index: int) -> _Step | Source:
    outer = at(owner.slots, link.origin_slot)
    if not outer:
        raise _fault(node, index, f"is linked to input {link.origin_slot} of its subgraph")
    if outer.link is None:
        return owner.widget_of(outer)
    return "input", owner, link.origin_slot, None


def _behind_output(node: LiveNode, index: int, kind: str | None) -> _Step | Source:
    kind = kind or "*"
    if node.node.mode == BYPASSED:
        around = _input_around(node, index, kind)
        return None if around is None else ("input", node, around, None)
    if node.inner:
        return _inside(node, index, kind)
    if node.is_virtual:
        return "input", node, index, kind
    return node, index


def _inside(node: LiveNode, index: int, kind: str) -> _Step | Source:
    assert node.inner
    edge = at(node.inner.graph.outputs, index)
    if not edge:
        raise InvalidWorkflow(
            f"input.workflow node {node.id!r}: its subgraph has no output {index}", node_id=node.id
        )
    links = node.inner.graph.links
    link = next((links[link_id] for link_id in edge.links if link_id in links), None)
    if not link:
        return None
    if link.origin == SUBGRAPH_INPUT:
        return "input", node, link.origin_slot, kind
    origin = node.inner.nodes.get(link.origin)
    if not origin:
        raise InvalidWorkflow(
            f"input.workflow node {node.id!r}: output {edge.name!r} of its subgraph is linked to "
            f"node {link.origin!r}, which is not in it",
            node_id=node.id,
        )
    return "output", origin, link.origin_slot, kind


def _input_around(node: LiveNode, index: int, wanted: str) -> int | None:
    """The input that stands in for output `index` of a bypassed node."""
    types = [slot.type for slot in node.slots]
    if wanted in _ANY:
        return index if index < len(types) else 0
    output = at(node.output_types, index) or "*"

    def fits(kind: str) -> bool:
        return _match(kind, output) and _match(kind, wanted)

    if index < len(types) and fits(types[index]):
        return index
    if wanted in types:
        return types.index(wanted)
    return next((place for place, kind in enumerate(types) if fits(kind)), None)


def _match(one: str, other: str) -> bool:
    """Whether the editor lets these types be linked; a type can be several, with commas."""
    if one in _ANY or other in _ANY:
        return True
    kinds, others = one.lower().split(","), other.lower().split(",")
    return any(kind in others for kind in kinds) or "*" in kinds or "*" in others


def _fault(node: LiveNode, index: int, what: str) -> InvalidWorkflow:
    slot = at(node.slots, index)
    name = slot.name if slot else str(index)
    return InvalidWorkflow(
        f"input.workflow node {node.id!r} ({node.node.type}): {name} {what}",
        node_id=node.id,
        input=name,
    )
