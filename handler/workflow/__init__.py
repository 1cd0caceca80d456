"""Workflows in API format: the caller's, checked, and those that prompt mode compiles."""

from handler.workflow.prompt_edit import (
    ModelNames,
    PromptEdit,
    check_image_count,
    compile_edit,
    parse_prompt_edit,
)
from handler.workflow.workflow import EditorGraph, Workflow, parse_nodes, parse_workflow

__all__ = [
    "EditorGraph",
    "ModelNames",
    "PromptEdit",
    "Workflow",
    "check_image_count",
    "compile_edit",
    "parse_nodes",
    "parse_prompt_edit",
    "parse_workflow",
]
