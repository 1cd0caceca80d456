"""The environment, read once, checked, and frozen. No other package reads it."""

from handler.settings.environment import (
    child_environment,
    cuda_selection,
    secret_values,
    set_sdk_defaults,
    unknown_variables,
)
from handler.settings.settings import Settings, read_settings
from handler.settings.worker import PROJECT_DIR

__all__ = [
    "PROJECT_DIR",
    "Settings",
    "child_environment",
    "cuda_selection",
    "read_settings",
    "secret_values",
    "set_sdk_defaults",
    "unknown_variables",
]
