"""ComfyUI's refusal of a prompt to a WorkflowRejected that says what, where and what is near.

The forms are those of ComfyUI's execution.validate_prompt: `{"error": {type, message, details},
"node_errors": {node_id: {"class_type", "errors": [{type, message, details, extra_info}]}}}`.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from handler.errors import WorkflowRejected
from handler.nearest import LONGEST_NAME, nearest, shown

_SHOWN_FAULTS = 3
_SHOWN_OPTIONS = 10
# A hostile workflow has thousands; each costs a search for the nearest names.
_KEPT_NODES = 20
_EXTENSION = ".safetensors"
# Where a node lists folders, those of other callers' jobs are among them.
_JOB_FOLDER = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(\.gone)?(/.*)?", re.DOTALL)
# The second is how later versions of ComfyUI call it.
_UNKNOWN_CLASS = frozenset({"invalid_prompt", "missing_node_type"})


def rejection(
    answer: Mapping[str, Any], nodes: Mapping[str, Any], object_info: Mapping[str, Any]
) -> WorkflowRejected:
    """`nodes` is the prompt that was sent; `object_info` is ComfyUI's /object_info or a part."""
    error = answer.get("error") or {}
    node_errors = answer.get("node_errors") or {}
    faults = (
        _unknown_classes(nodes, object_info)
        if error.get("type") in _UNKNOWN_CLASS
        else {
            str(node_id): [
                _fault(fault, entry.get("class_type", ""), object_info)
                for fault in entry.get("errors", [])
            ]
            for node_id, entry in islice(node_errors.items(), _KEPT_NODES)
        }
    )
    lines = [
        f"node {node_id} ({nodes.get(node_id, {}).get('class_type', '?')}): {fault['message']}"
        for node_id, of_node in faults.items()
        for fault in of_node
    ]
    if error.get("type") == "prompt_no_outputs":
        lines = ["the workflow has no output node; add one such as SaveImage"]
    if not lines:
        lines = [f"{error.get('message', 'no reason given')} {error.get('details', '')}".strip()]
    more = f" (and {len(lines) - _SHOWN_FAULTS} more)" if len(lines) > _SHOWN_FAULTS else ""
    return WorkflowRejected("; ".join(lines[:_SHOWN_FAULTS]) + more, node_errors=faults)


def needs_object_info(answer: Mapping[str, Any]) -> bool:
    """Whether the nearest names need /object_info: ComfyUI leaves out unknown types and long
    lists of options."""
    if (answer.get("error") or {}).get("type") in _UNKNOWN_CLASS:
        return True
    return any(
        fault.get("type") == "value_not_in_list"
        and not (fault.get("extra_info") or {}).get("input_config")
        for entry in (answer.get("node_errors") or {}).values()
        for fault in entry.get("errors", [])
    )


def _unknown_classes(
    nodes: Mapping[str, Any], object_info: Mapping[str, Any]
) -> dict[str, list[dict[str, Any]]]:
    """More than the first, at which ComfyUI stops."""
    unknown = (item for item in nodes.items() if item[1]["class_type"] not in object_info)
    return {
        node_id: [
            {
                "type": "unknown_class_type",
                "message": f"there is no node type {shown(node['class_type'])}"
                + _near_text(near := _near(node["class_type"], list(object_info))),
                "nearest": near,
            }
        ]
        for node_id, node in islice(unknown, _KEPT_NODES)
    }


def _fault(
    fault: Mapping[str, Any], class_type: str, object_info: Mapping[str, Any]
) -> dict[str, Any]:
    extra = fault.get("extra_info") or {}
    name = extra.get("input_name", "")
    out = {"type": fault.get("type", ""), "input": name}
    if fault.get("type") == "value_not_in_list":
        options = _options(extra.get("input_config")) or _options(
            _declared_input(object_info.get(class_type), name)
        )
        received = str(extra.get("received_value", ""))
        near = _near(received, options)
        out["received"] = received
        out["nearest"] = near
        out["options"] = options[:_SHOWN_OPTIONS]
        out["message"] = f"{name} {shown(received)} is not in the list" + (
            _near_text(near) or _options_text(options)
        )
    else:
        details = str(fault.get("details", ""))
        out["message"] = str(fault.get("message", "")) + (f": {details}" if details else "")
    return out


def _declared_input(info: Mapping[str, Any] | None, name: str) -> Any:
    declared = (info or {}).get("input", {})
    return declared.get("required", {}).get(name) or declared.get("optional", {}).get(name)


def _options(config: Any) -> list[str]:
    """Options of a list input, `[[a, b], {...}]` or `["COMBO", {"options": [a, b]}]`, but for jobs'
    folders."""
    if not isinstance(config, Sequence) or isinstance(config, str) or not config:
        return []
    options = config[0]
    if options == "COMBO" and len(config) > 1:
        options = config[1].get("options", [])
    return (
        [option for option in map(str, options) if not _JOB_FOLDER.fullmatch(option)]
        if isinstance(options, Sequence | tuple) and not (isinstance(options, str))
        else []
    )


def _near(value: str, options: list[str]) -> list[str]:
    """The options most like `value`; an extension that all models share makes no likeness."""
    by_stem = {option.lower().removesuffix(_EXTENSION): option for option in options}
    stem = value[: 2 * LONGEST_NAME].lower().removesuffix(_EXTENSION)
    found = nearest(stem, by_stem, most=3, cutoff=0.5)
    return [by_stem[option] for option in found]


def _near_text(near: list[str]) -> str:
    return f"; nearest: {', '.join(map(repr, near))}" if near else ""


def _options_text(options: list[str]) -> str:
    if not options:
        return "; the list is empty"
    more = ", ..." if len(options) > _SHOWN_OPTIONS else ""
    return f"; it holds {', '.join(map(repr, options[:_SHOWN_OPTIONS]))}{more}"
