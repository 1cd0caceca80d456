"""What the torch of ComfyUI's environment was built for; torch itself takes seconds to import."""

import re
from pathlib import Path

_CUDA = re.compile(r"^cuda\b[^=]*= ?'(\d+)\.(\d+)", re.MULTILINE)


def torch_cuda(python: Path) -> tuple[int, int] | None:
    """Its CUDA, such as (13, 0), by the file that torch's build writes; None where there is none,
    or another torch."""
    for path in python.parent.parent.glob("lib/python*/site-packages/torch/version.py"):
        if found := _CUDA.search(path.read_text(encoding="utf-8")):
            return int(found[1]), int(found[2])
    return None
