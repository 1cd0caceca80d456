"""The widgets that the editor makes of a node's inputs, and their values.

`widgets_values` of a saved node has no names: which value is whose follows only from the widgets
that the editor creates, in its order, those that ComfyUI never sees included.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

# A widget without a value: the editor leaves its input out.
UNSET: Final = object()
DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"

Spec = Mapping[str, Any]

_SEEDS = ("seed", "noise_seed")
_UPLOADS = ("image_upload", "video_upload", "animated_image_upload")
_WIDGET_TYPES = frozenset(
    [
        *("INT", "FLOAT", "BOOLEAN", "STRING", "COMBO", DYNAMIC_COMBO),
        *("MARKDOWN", "TEXTAREA", "COLOR", "CHART", "GALLERIA", "IMAGECOMPARE"),
        *("IMAGEUPLOAD", "AUDIOUPLOAD", "AUDIO_UI", "AUDIO_RECORD", "WEBCAM"),
        *("LOAD_3D", "PREVIEW_3D"),
    ]
)


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input of a definition, whichever of the forms of /object_info it came in."""

    name: str
    type: str
    options: Spec

    @property
    def is_forced(self) -> bool:
        """Whether it can only be linked, although its type has a widget."""
        return bool(self.options.get("forceInput"))

    @property
    def widget_type(self) -> str | None:
        """None for a socket."""
        kind = self.options.get("widgetType") or self.type
        return None if self.is_forced or kind not in _WIDGET_TYPES else kind

    @property
    def is_upload(self) -> bool:
        flags = self.options.get
        return self.type == "COMBO" and any(flags(flag) is True for flag in _UPLOADS)

    @property
    def is_controlled(self) -> bool:
        """Whether a number has a second widget that says what happens to it after a run."""
        control = self.options.get("control_after_generate")
        return self.name in _SEEDS if control is None else bool(control)


@dataclass(slots=True)
class Widget:
    """`spec` is None for what ComfyUI has no input for. `saved`: has a place in `widgets_values`.
    `sent`: goes into the prompt. `fixed`: keeps its value, whatever the file says."""

    name: str
    value: Any = UNSET
    spec: InputSpec | None = None
    saved: bool = True
    sent: bool = True
    fixed: bool = False

    @property
    def is_text_area(self) -> bool:
        spec = self.spec
        return bool(spec and spec.widget_type == "STRING" and spec.options.get("multiline"))

    def set(self, value: Any) -> None:
        if self.fixed:
            return
        if self.is_text_area:
            value = _text_area_value(value)
        elif self.spec and self.spec.is_upload:
            value = _picked_file(value, self.spec.options)
        self.value = value

    def set_stepped(self, value: Any) -> None:
        """Set what a primitive node gives, with a number rounded as this widget rounds."""
        self.set(_stepped(value, self.spec) if self.spec else value)


def input_spec(name: str, value: Any) -> InputSpec:
    """`value` is an input in /object_info: `[type or options]` or `[type or options, {...}]`."""
    kind, given, *_ = [*(value if isinstance(value, list) else []), None, None]
    options: Spec = given if isinstance(given, Mapping) else {}
    if isinstance(kind, list):
        return InputSpec(name, "COMBO", {**options, "options": kind})
    return InputSpec(name, kind if isinstance(kind, str) else "UNKNOWN", options)


def filled_widgets(
    specs: tuple[InputSpec, ...], values: list[Any] | Mapping[str, Any]
) -> Iterator[Widget]:
    """The widgets of `specs` with the values of the file, or their defaults where it has none."""
    places = iter(values)
    waiting = list(reversed(specs))
    while waiting:
        spec = waiting.pop()
        for widget in _widgets_of(spec):
            if isinstance(values, Mapping):
                given = values.get(widget.name, UNSET)
            else:
                given = next(places, UNSET) if widget.saved else UNSET
            if given is not UNSET:
                widget.set(given)
            # Which inputs follow a dynamic combo depends on its value.
            if widget.spec and widget.spec.type == DYNAMIC_COMBO:
                waiting += reversed(_chosen_specs(spec, widget.value))
            yield widget


def _widgets_of(spec: InputSpec) -> list[Widget]:
    kind = spec.widget_type
    if kind is None:
        return []
    if kind in ("IMAGEUPLOAD", "AUDIOUPLOAD"):
        return [Widget(spec.name, sent=False)]
    if kind == "AUDIO_UI":
        return [Widget(spec.name, "", saved=False, fixed=True)]
    if kind == "AUDIO_RECORD":
        return [Widget(spec.name, "", fixed=True), Widget("", sent=False)]
    if kind == "PREVIEW_3D":
        return [Widget("image", "", fixed=True)]
    if kind == "LOAD_3D":
        return _model_loader()
    widget = Widget(spec.name, spec=spec)
    widget.set(_default(spec))
    return [widget, *_companions(spec)]


def _model_loader() -> list[Widget]:
    return [
        Widget("upload 3d model", "upload3dmodel"),
        Widget("upload extra resources", "uploadExtraResources"),
        Widget("clear", "clear"),
        Widget("image", ""),
    ]


def _companions(spec: InputSpec) -> Iterator[Widget]:
    remote = spec.options.get("remote")
    if spec.widget_type == "INT" and spec.is_controlled:
        yield Widget("control_after_generate", sent=False)
    if spec.widget_type != "COMBO":
        return
    if isinstance(remote, Mapping):
        yield Widget("Auto-refresh after generation", sent=False)
        if remote.get("refresh_button"):
            yield Widget("refresh", "refresh")
    if spec.options.get("control_after_generate"):
        yield Widget("control_after_generate", sent=False)
        yield Widget("control_filter_list", sent=False)


def _default(spec: InputSpec) -> Any:
    default = spec.options.get("default")
    if spec.type == DYNAMIC_COMBO:
        keys = [choice["key"] for choice in spec.options.get("options") or ()]
        return default or (keys[0] if keys else UNSET)
    if spec.widget_type == "COMBO":
        return _combo_default(spec.options)
    fallbacks = {"INT": 0, "FLOAT": 0, "BOOLEAN": False, "COLOR": "#000000"}
    return fallbacks.get(spec.widget_type or "", "") if default is None else default


def _combo_default(options: Spec) -> Any:
    if options.get("multi_select"):
        return []
    if options.get("default"):
        return options["default"]
    choices = options.get("options")
    if choices:
        return choices[0]
    return "Loading..." if options.get("remote") else UNSET


def _chosen_specs(spec: InputSpec, value: Any) -> list[InputSpec]:
    """Of a dynamic combo, with the flat dotted names that ComfyUI expects."""
    chosen = [choice for choice in spec.options.get("options") or () if choice["key"] == value]
    sections = (chosen[0].get("inputs") or {}) if chosen else {}
    return [
        replace(input_spec(name, given), name=f"{spec.name}.{name}")
        for section in ("required", "optional")
        for name, given in (sections.get(section) or {}).items()
    ]


def _text_area_value(value: Any) -> Any:
    """What a browser's text area makes of a value."""
    if value is None:
        return ""
    text = script_text(value)
    return text.replace("\r\n", "\n").replace("\r", "\n") if isinstance(text, str) else value


def script_text(value: Any) -> Any:
    """A text, number or truth value as JavaScript writes it; anything else as it is."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return str(value) if isinstance(value, int | float) else value


def _picked_file(value: Any, options: Spec) -> Any:
    """The name of an uploaded file, with its folder if that is not the input folder."""
    if isinstance(value, list) and not options.get("allow_batch"):
        value = value[0] if value else None
    if not value:
        return _combo_default(options)
    if isinstance(value, list):
        return [_annotated(item, options) for item in value]
    return _annotated(value, options)


def _annotated(value: Any, options: Spec) -> Any:
    folder = options.get("image_folder") or "input"
    if isinstance(value, Mapping):
        folder = value.get("type") or "input"
        names = [value.get("subfolder"), value.get("filename")]
        value = "/".join(str(name) for name in names if name)
    if not isinstance(value, str) or folder == "input":
        return value
    has_folder = any(f"[{known}]" in value.lower() for known in ("input", "output", "temp"))
    return value if has_folder else f"{value} [{folder}]"


def _stepped(value: Any, spec: InputSpec) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    try:
        if spec.widget_type == "INT":
            return _stepped_int(value, spec.options)
        return _rounded_float(value, spec.options) if spec.widget_type == "FLOAT" else value
    except (OverflowError, TypeError, ValueError):
        return value


def _stepped_int(value: float, options: Spec) -> float:
    step = options.get("step") or 1
    if step == 1:
        return value if isinstance(value, int) else math.floor(value + 0.5)
    offset = math.fmod(options.get("min") or 0, step)
    nearest = math.floor((value - offset) / step + 0.5) * step + offset
    return int(nearest) if nearest.is_integer() else nearest


def _rounded_float(value: float, options: Spec) -> float:
    precision = max(0, -math.floor(math.log10(options.get("step") or 0.5)))
    grain = options.get("round") or (10**-precision if precision else 0)
    if not grain:
        return value
    rounded = round(math.floor(value / grain + 0.5) * grain, precision)
    low, high = options.get("min"), options.get("max")
    return min(max(rounded, 0 if low is None else low), 2048 if high is None else high)
