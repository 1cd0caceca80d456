"""The ComfyUI child: its folders, its flags, its process, and the policy that keeps one ready."""

from handler.comfy.memory_flags import comfy_memory_flags
from handler.comfy.process import ComfyPaths, ComfyProcess, comfy_argv
from handler.comfy.run_dir import open_run_dir
from handler.comfy.source_code import SourceCode
from handler.comfy.supervisor import Supervisor
from handler.comfy.torch_build import torch_cuda

__all__ = [
    "ComfyPaths",
    "ComfyProcess",
    "SourceCode",
    "Supervisor",
    "comfy_argv",
    "comfy_memory_flags",
    "open_run_dir",
    "torch_cuda",
]
