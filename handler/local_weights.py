"""Which weights a worker outside its container runs on: the real ones, or the scale models."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from handler.errors import ModelMissing
from handler.machine import has_gpu
from handler.models import find_models, folder_place, read_models_lock


@dataclass(frozen=True, slots=True)
class LocalWeights:
    """`environment` makes `python -m handler` use them; `reason` tells the user why these."""

    is_scale: bool
    reason: str
    environment: dict[str, str]


def choose_weights(project_dir: Path, environ: Mapping[str, str]) -> LocalWeights:
    """The real weights need a GPU and all the locked files in WORKER_MODELS_DIR.

    Raises InvalidModelsLock, and ModelMissing when there is a GPU and the folder that the user
    has named lacks a file: who names a folder does not want noise.
    """
    models_dir = environ.get("WORKER_MODELS_DIR")
    if not has_gpu():
        return _scale(project_dir, "this machine has no GPU", environ, "--cpu")
    if not models_dir:
        return _scale(project_dir, "WORKER_MODELS_DIR is not set", environ)
    lock = read_models_lock(
        project_dir / "models.lock", environ.get("WORKER_MODELS_PROFILE") or None
    )
    try:
        find_models(lock, folder_place(Path(models_dir)))
    except ModelMissing as exc:
        raise ModelMissing(
            f"{exc.message}; unset WORKER_MODELS_DIR to run on scale models", **exc.details
        ) from exc
    return LocalWeights(False, f"the real ones in {models_dir}", dict(environ))


def _scale(project_dir: Path, reason: str, environ: Mapping[str, str], *more: str) -> LocalWeights:
    folder = project_dir / "build" / "scale-models"
    nodes = project_dir / "comfy" / "scale_models" / "custom_nodes.yaml"
    # On a CPU ComfyUI chooses another attention than on a GPU, and a several times slower one.
    arguments = shlex.join(
        [*more, "--use-pytorch-cross-attention", "--extra-model-paths-config", str(nodes)]
    )
    return LocalWeights(
        True,
        reason,
        {
            **environ,
            # An empty one counts as none: the scale models have one profile.
            "WORKER_MODELS_PROFILE": "",
            "WORKER_MODELS_DIR": str(folder),
            "WORKER_MODELS_LOCK": str(folder / "models.lock"),
            "COMFY_ARGS": f"{arguments} {environ.get('COMFY_ARGS', '')}".strip(),
        },
    )
