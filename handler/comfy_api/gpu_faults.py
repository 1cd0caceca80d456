"""What a node's exception says about the memory, the process and the GPU.

The phrases are CUDA's own (cudaGetErrorString, of CUDA 13.0); HIP has the same. Types are named as
ComfyUI does it (execution.py, full_type_name): `torch.OutOfMemoryError`, `RuntimeError`.
"""

import re
from enum import Enum

# A message may repeat a caller's text, which must not cost the worker: only torch's own types are
# believed as they are, and a RuntimeError that begins as those of torch and Triton do.
_TORCH_TYPES = re.compile(r"torch\.(?:AcceleratorError|cuda\.\w+)")
_OPENINGS = re.compile(
    r"(?:CUDA|HIP)(?: driver)? error: |(?:CUDA|HIP) out of memory"
    r"|(?:cuBLAS|cuDNN|MIOpen|cusolver|cuFFT|cusparse) error: |(?:CUBLAS|CUDNN|CUSOLVER|CUFFT)_"
    r"|Triton Error \[(?:CUDA|HIP)\]: |Unexpected error from cudaGetDeviceCount\(\)",
    re.IGNORECASE,
)
# Not every allocation goes through torch's allocator, whose exception has a type of its own.
_OUT_OF_MEMORY = re.compile(
    r"(?:CUDA|HIP)(?: driver)? error: out of memory|(?:CUDA|HIP) out of memory"
    r"|(?:CUBLAS|CUDNN|CUSOLVER|CUFFT)_(?:STATUS_)?\w*ALLOC(?:ATION)?_FAILED"
)
_DEVICE = re.compile(
    r"uncorrectable ECC error|uncorrectable NVLink error"
    r"|access of peer GPU memory over nvlink or a hardware error"
    r"|no CUDA-capable device is detected|device\(s\) is/are busy or unavailable"
)
# After each of these "the process must be terminated and relaunched" (CUDA Runtime API, 6.36
# Data types, cudaError_t); and what the libraries report when one of them has come before.
_PROCESS = re.compile(
    r"an illegal memory access was encountered|device-side assert triggered"
    r"|unspecified launch failure|an illegal instruction was encountered"
    r"|the launch timed out and was terminated"
    r"|operation not supported on global/shared address space"
    r"|(?:CUDA|HIP)(?: driver)? error: (?:misaligned address|hardware stack error"
    r"|invalid program counter|tensor memory not completely freed|context is destroyed"
    r"|invalid device context|driver shutting down|initialization error|unknown error"
    r"|an async error has occured in external entity"
    r"|the MPS client has been terminated)"
    r"|CUBLAS_STATUS_(?:NOT_INITIALIZED|EXECUTION_FAILED|INTERNAL_ERROR|MAPPING_ERROR)"
    r"|CUDNN_STATUS_(?:NOT_INITIALIZED|EXECUTION_FAILED|INTERNAL_ERROR|MAPPING_ERROR)"
    r"|CUSOLVER_STATUS_(?:NOT_INITIALIZED|EXECUTION_FAILED|INTERNAL_ERROR)"
    r"|CUFFT_(?:EXEC_FAILED|INTERNAL_ERROR)"
)


class Damage(Enum):
    """What can't be used any more. A plain error of a node damages nothing."""

    PROCESS = "process"  # every later call to the GPU fails in it
    DEVICE = "device"  # also in another process


def is_out_of_memory(exception_type: str, message: str) -> bool:
    """Of the GPU or of the host: torch's, Python's and NumPy's types all end alike."""
    return exception_type.endswith("MemoryError") or bool(
        _is_of_the_gpu(exception_type, message) and _OUT_OF_MEMORY.search(message)
    )


def damage(exception_type: str, message: str) -> Damage | None:
    if is_out_of_memory(exception_type, message) or not _is_of_the_gpu(exception_type, message):
        return None
    if _DEVICE.search(message):
        return Damage.DEVICE
    return Damage.PROCESS if _PROCESS.search(message) else None


def _is_of_the_gpu(exception_type: str, message: str) -> bool:
    if _TORCH_TYPES.fullmatch(exception_type):
        return True
    return exception_type == "RuntimeError" and bool(_OPENINGS.match(message))
