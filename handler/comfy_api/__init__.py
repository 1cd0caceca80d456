"""Prompts on ComfyUI's API: given once, watched, stopped, and read from its history."""

from handler.comfy_api.client import ComfyClient
from handler.comfy_api.file_kinds import HEAD_BYTES, FileKind, FileType, extension_of, file_type
from handler.comfy_api.history import Execution, no_output, read_execution
from handler.comfy_api.node_outputs import NodeText, SavedFile
from handler.comfy_api.object_info import ObjectInfo
from handler.comfy_api.progress import Reporter, Send
from handler.comfy_api.run import PromptRun

__all__ = [
    "HEAD_BYTES",
    "ComfyClient",
    "Execution",
    "FileKind",
    "FileType",
    "NodeText",
    "ObjectInfo",
    "PromptRun",
    "Reporter",
    "SavedFile",
    "Send",
    "extension_of",
    "file_type",
    "no_output",
    "read_execution",
]
