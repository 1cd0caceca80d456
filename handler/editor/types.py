"""A node's definition in /object_info, as the editor lays the node out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from handler.editor.file import Slot
from handler.editor.widgets import (
    DYNAMIC_COMBO,
    InputSpec,
    Spec,
    Widget,
    filled_widgets,
    input_spec,
)

_MATCH_TYPE = "COMFY_MATCHTYPE_V3"
# Inputs whose own inputs the definition does not list one by one.
_GROWING = frozenset({DYNAMIC_COMBO, "COMFY_AUTOGROW_V3", "COMFY_DYNAMICSLOT_V3"})
_AUDIO_PLAYERS = ("LoadAudio", "SaveAudio", "PreviewAudio", "SaveAudioMP3", "SaveAudioOpus")
_MODEL_VIEWERS = ("Preview3D", "SaveGLB")


@dataclass(frozen=True, slots=True)
class NodeType:
    """`sockets` are all inputs that can be linked, in the editor's order."""

    name: str
    title: str
    specs: tuple[InputSpec, ...]
    sockets: tuple[Slot, ...]
    output_types: tuple[str, ...]

    def widgets(self, values: list[Any] | Mapping[str, Any]) -> dict[str, Widget]:
        """By name. `values` is `widgets_values` of a saved node."""
        if isinstance(values, list):
            values = self._without_forced(values)
        widgets: dict[str, Widget] = {}
        for widget in filled_widgets(self.specs, values):
            widgets.setdefault(widget.name, widget)
        if self.name == "PreviewAny":
            widgets["preview"] = Widget("preview", "", fixed=True)
        return widgets

    def slots(self, saved: tuple[Slot, ...], widgets: Mapping[str, Widget]) -> tuple[Slot, ...]:
        """The defined inputs with the links of the file, then what only the file has."""
        links = {slot.name: slot.link for slot in saved}
        known = {socket.name for socket in self.sockets}
        growing = tuple(f"{spec.name}." for spec in self.specs if spec.type in _GROWING)
        defined = [
            replace(socket, link=links[socket.name]) if socket.name in links else socket
            for socket in self.sockets
        ]
        extra = [
            slot
            for slot in saved
            if slot.name not in known
            and (slot.widget is None or slot.widget in widgets or slot.name.startswith(growing))
        ]
        return (*defined, *extra)

    def _without_forced(self, values: list[Any]) -> list[Any]:
        """Until version 1.16 the editor saved a value for inputs that can only be linked, too."""
        valued = [spec for spec in self.specs if spec.widget_type or spec.is_forced]
        places = sum(2 if spec.is_controlled else 1 for spec in valued)
        if places != len(values) or not any(spec.is_forced for spec in valued):
            return values
        # The editor pairs them like this although the value of a control shifts the rest.
        forced = [spec.is_forced for spec in valued]
        forced += [False] * (len(values) - len(forced))
        return [value for value, skip in zip(values, forced, strict=True) if not skip]


def read_node_type(name: str, definition: Spec) -> NodeType:
    """`definition` is the node's entry in /object_info."""
    specs = tuple(_ordered_specs(name, definition))
    sockets = [Slot(spec.name, _slot_type(spec)) for spec in specs if not spec.widget_type]
    sockets += [
        Slot(spec.name, _slot_type(spec), widget=spec.name)
        for spec in specs
        if spec.widget_type and not spec.options.get("socketless")
    ]
    return NodeType(
        definition.get("name") or name,
        definition.get("display_name") or name,
        specs,
        tuple(sockets),
        tuple(_output_type(output) for output in definition.get("output") or ()),
    )


def _ordered_specs(name: str, definition: Spec) -> Iterator[InputSpec]:
    sections = definition.get("input") or {}
    order = definition.get("input_order") or {}
    required = _with_editor_inputs(name, sections.get("required") or {})
    optional = sections.get("optional") or {}
    for inputs, names in ((required, order.get("required")), (optional, order.get("optional"))):
        for key in names or inputs:
            if key in inputs:
                yield input_spec(key, inputs[key])
    # The order does not know what the editor has added.
    for key in required:
        if order.get("required") and key not in order["required"]:
            yield input_spec(key, required[key])


def _with_editor_inputs(name: str, required: Spec) -> Spec:
    """Buttons, players and viewers are inputs that the editor adds to some definitions."""
    added: dict[str, Any] = {}
    if name in _AUDIO_PLAYERS:
        added["audioUI"] = ["AUDIO_UI", {}]
    if name in _MODEL_VIEWERS:
        added["image"] = ["PREVIEW_3D", {}]
    if any(input_spec(key, value).is_upload for key, value in required.items()):
        added["upload"] = ["IMAGEUPLOAD", {}]
    if input_spec("audio", required.get("audio")).options.get("audio_upload") is True:
        added["upload"] = ["AUDIOUPLOAD", {}]
    return {**required, **added}


def _slot_type(spec: InputSpec) -> str:
    if spec.type == _MATCH_TYPE:
        return str((spec.options.get("template") or {}).get("allowed_types") or "*")
    return spec.type


def _output_type(output: Any) -> str:
    if isinstance(output, list):
        return "COMBO"
    return "*" if output == _MATCH_TYPE else str(output)
