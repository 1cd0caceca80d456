"""Which weights are the right ones, and where on this machine they lie. Only reads."""

from handler.models.check import check_model, hash_model, sample_digest, sample_spans
from handler.models.lock import ModelFile, ModelsLock, read_models_lock
from handler.models.places import (
    VOLUME,
    FoundModel,
    Place,
    find_model,
    find_models,
    folder_place,
    link_models,
    model_folders,
    search_places,
)

__all__ = [
    "VOLUME",
    "FoundModel",
    "ModelFile",
    "ModelsLock",
    "Place",
    "check_model",
    "find_model",
    "find_models",
    "folder_place",
    "hash_model",
    "link_models",
    "model_folders",
    "read_models_lock",
    "sample_digest",
    "sample_spans",
    "search_places",
]
