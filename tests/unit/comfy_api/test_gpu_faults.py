import pytest

from handler.comfy_api.gpu_faults import Damage, damage, is_out_of_memory

CUDA = "torch.AcceleratorError"


@pytest.mark.parametrize(
    ("exception_type", "message"),
    [
        ("torch.OutOfMemoryError", "Allocation on device"),
        ("torch.OutOfMemoryError", "CUDA out of memory. Tried to allocate 20.00 GiB"),
        ("MemoryError", ""),
        ("numpy._core._exceptions._ArrayMemoryError", "Unable to allocate 8.00 TiB"),
        (CUDA, "CUDA error: out of memory\nCUDA kernel errors might be reported later"),
        ("RuntimeError", "HIP out of memory. Tried to allocate 2.00 GiB"),
        (
            "RuntimeError",
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        ),
        ("RuntimeError", "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    ],
)
def test_memory_that_ran_out_is_no_damage(exception_type: str, message: str) -> None:
    assert is_out_of_memory(exception_type, message)
    assert damage(exception_type, message) is None


@pytest.mark.parametrize(
    ("exception_type", "message"),
    [
        (CUDA, "CUDA error: an illegal memory access was encountered"),
        ("RuntimeError", "CUDA error: device-side assert triggered\nCompile with `TORCH_USE_CUDA`"),
        (CUDA, "CUDA error: unspecified launch failure"),
        (CUDA, "CUDA error: misaligned address"),
        (CUDA, "CUDA error: the launch timed out and was terminated"),
        (CUDA, "CUDA error: unknown error"),
        ("RuntimeError", "CUDA driver error: an illegal instruction was encountered"),
        ("RuntimeError", "Triton Error [CUDA]: an illegal memory access was encountered"),
        ("RuntimeError", "HIP error: unspecified launch failure"),
        ("RuntimeError", "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
        ("RuntimeError", "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate`"),
        ("RuntimeError", "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        ("RuntimeError", "cuFFT error: CUFFT_EXEC_FAILED"),
    ],
)
def test_a_fault_that_stays_with_the_process_damages_it(exception_type: str, message: str) -> None:
    assert damage(exception_type, message) is Damage.PROCESS


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: uncorrectable ECC error encountered",
        "CUDA error: uncorrectable NVLink error detected during the execution",
        "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
        "CUDA error: no CUDA-capable device is detected",
        "Unexpected error from cudaGetDeviceCount(). Error 46: CUDA-capable device(s) is/are busy "
        "or unavailable",
    ],
)
def test_a_fault_of_the_device_damages_that(message: str) -> None:
    assert damage("RuntimeError", message) is Damage.DEVICE


@pytest.mark.parametrize(
    ("exception_type", "message"),
    [
        ("RuntimeError", "mat1 and mat2 shapes cannot be multiplied (1x2 and 3x4)"),
        ("RuntimeError", "Expected all tensors to be on the same device, cuda:0 and cpu!"),
        (CUDA, "CUDA error: invalid argument"),
        (CUDA, "CUDA error: invalid configuration argument"),
        (CUDA, "CUDA error: no kernel image is available for execution on the device"),
        ("RuntimeError", "CUDA error: CUBLAS_STATUS_INVALID_VALUE when calling `cublasGemmEx`"),
        ("RuntimeError", "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasLtMatmul`"),
        ("RuntimeError", "cuDNN error: CUDNN_STATUS_BAD_PARAM"),
        ("RuntimeError", "FIND was unable to find an engine: CUDNN_STATUS_NOT_SUPPORTED"),
        ("ValueError", "unknown error"),
        ("builtins.OSError", "[Errno 28] No space left on device"),
        ("", ""),
    ],
)
def test_a_plain_error_damages_nothing(exception_type: str, message: str) -> None:
    assert damage(exception_type, message) is None
    assert not is_out_of_memory(exception_type, message)


@pytest.mark.parametrize(
    ("exception_type", "message"),
    [
        ("ValueError", "Dataset directory not found: /input/uncorrectable ECC error"),
        ("ValueError", "CUDA error: device-side assert triggered"),
        ("FileNotFoundError", "[Errno 2] No such file or directory: 'CUDA out of memory'"),
        ("Exception", "prompt too long: CUDA error: out of memory"),
        ("KeyError", "'CUBLAS_STATUS_ALLOC_FAILED'"),
        ("RuntimeError", "Unknown name 'CUDA error: uncorrectable ECC error'"),
        ("RuntimeError", "shape '[CUDA out of memory]' is invalid"),
        ("ExecutionBlocked", "Execution Blocked: CUDA error: unknown error"),
        ("torch._dynamo.exc.Unsupported", "call of 'CUDA error: unknown error'"),
    ],
)
def test_a_callers_own_text_damages_nothing(exception_type: str, message: str) -> None:
    assert damage(exception_type, message) is None
    assert not is_out_of_memory(exception_type, message)
