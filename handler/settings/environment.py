"""The environment beside the settings: what others get of it, and what is set for them."""

import os
from collections.abc import Mapping

from handler.nearest import nearest
from handler.settings.settings import Settings

# Custom nodes run third-party code: the child gets what a CUDA program needs and no key of ours.
_CHILD_NAMES = frozenset(
    """HOME LANG LC_ALL LD_LIBRARY_PATH LD_PRELOAD PATH SSL_CERT_DIR SSL_CERT_FILE TMPDIR TZ USER
    XDG_CACHE_HOME""".split()  # noqa: SIM905 - a list of names is read as a text
)
_CHILD_PREFIXES = ("CUDA_", "NVIDIA_", "OMP_", "MKL_", "PYTORCH_", "TORCH", "TRITON_")


_SECRET_NAMES = (
    "BUCKET_ACCESS_KEY_ID",
    "BUCKET_SECRET_ACCESS_KEY",
    "RUNPOD_AI_API_KEY",
    "RUNPOD_API_KEY",
    "HF_TOKEN",
)


def unknown_variables(environ: Mapping[str, str] = os.environ) -> dict[str, list[str]]:
    """Variables with our prefix that nothing reads, each with the nearest names: likely typos."""
    known = [name.upper() for name in Settings.model_fields]
    return {
        # The prefix alone makes any two of them alike.
        name: nearest(name, known, cutoff=0.75)
        for name in sorted(environ)
        if name.startswith(("WORKER_", "COMFY_", "BUCKET_")) and name not in known
    }


def secret_values(environ: Mapping[str, str] = os.environ) -> list[str]:
    """What must never be logged, longest first so that one secret inside another is no leak."""
    values = {environ.get(name, "") for name in _SECRET_NAMES}
    return sorted((value for value in values if len(value) >= 4), key=len, reverse=True)


def child_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment that ComfyUI gets. It executes save nodes in the order of a set
    (execution.py, good_outputs), from which files get their numbers: the hash seed makes that order
    the same in every worker, and so the names under which a job that is sent twice is stored."""
    return {
        name: value
        for name, value in environ.items()
        if name in _CHILD_NAMES or name.startswith(_CHILD_PREFIXES)
    } | {"PYTHONUNBUFFERED": "1", "PYTHONHASHSEED": "0"}


def cuda_selection(environ: Mapping[str, str] = os.environ) -> dict[str, str | None]:
    """How the machine's cards are shown to a CUDA program; ComfyUI gets the same variables."""
    return {
        "visible_devices": environ.get("CUDA_VISIBLE_DEVICES"),
        "device_order": environ.get("CUDA_DEVICE_ORDER"),
    }


def set_sdk_defaults() -> None:
    """Set what RunPod's SDK reads at import, where the operator has not.

    Its automatic checks end a worker that has no route to 8.8.8.8 or whose disk is filled by
    baked weights (runpod 1.12.0, rp_system_fitness.py); its default level prints every result.
    """
    os.environ.setdefault("RUNPOD_SKIP_AUTO_SYSTEM_CHECKS", "true")
    os.environ.setdefault("RUNPOD_SKIP_GPU_CHECK", "true")
    if "RUNPOD_LOG_LEVEL" not in os.environ:
        os.environ.setdefault("RUNPOD_DEBUG_LEVEL", "INFO")
