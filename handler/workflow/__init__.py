"""Workflows in API format: the caller's, checked, and those that prompt mode compiles."""

from handler.workflow.edit_graph import (
    Blank,
    Sampling,
    compile_edit,
    graph_version,
    sampling_of,
)
from handler.workflow.links import is_link, links
from handler.workflow.prompt_edit import (
    ModelNames,
    PromptEdit,
    check_image_count,
    parse_prompt_edit,
)
from handler.workflow.sizes import aligned_size, cropped_to, extended_to, piece_size, template_size
from handler.workflow.workflow import EditorGraph, Workflow, parse_nodes, parse_workflow

__all__ = [
    "Blank",
    "EditorGraph",
    "ModelNames",
    "PromptEdit",
    "Sampling",
    "Workflow",
    "aligned_size",
    "check_image_count",
    "compile_edit",
    "cropped_to",
    "extended_to",
    "graph_version",
    "is_link",
    "links",
    "parse_nodes",
    "parse_prompt_edit",
    "parse_workflow",
    "piece_size",
    "sampling_of",
    "template_size",
]
