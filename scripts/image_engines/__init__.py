"""Two ways to build the image and run it: a Docker engine, or buildah and namespaces of our own.

The second needs no daemon, only root on Debian or Ubuntu; what is missing there it installs.
"""

from image_engines.buildah import Buildah
from image_engines.docker import Docker, has_docker
from image_engines.engine import (
    PROJECT_DIR,
    WORK_DIR,
    Container,
    Engine,
    EngineError,
    Layer,
    Mount,
    say,
)

__all__ = [
    "PROJECT_DIR", "WORK_DIR", "Buildah", "Container", "Docker", "Engine", "EngineError", "Layer",
    "Mount", "has_docker", "say",
]  # fmt: skip
