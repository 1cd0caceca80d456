"""The rules of pruning that hold for the ComfyUI at hand, applied to callers' workflows."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from handler.comfy import SourceCode
from handler.logs import get_logger
from handler.pictures import InputImage
from handler.pruning import RULES, PrunedWork, prune
from handler.workflow import ModelNames, Workflow

log = get_logger()


class Pruner:
    """`models` are the locked weights."""

    def __init__(self, comfy_dir: Path, models: ModelNames) -> None:
        self._comfy_dir = comfy_dir
        self._models = models

    def prune(
        self, workflow: Workflow, pictures: Sequence[InputImage], *, wants_previews: bool
    ) -> tuple[Workflow, tuple[PrunedWork, ...]]:
        """The first call reads ComfyUI's source, half a second's work, so this does not belong on
        an event loop."""
        return prune(workflow, pictures, self._models, self._rules, wants_previews=wants_previews)

    @cached_property
    def _rules(self) -> frozenset[str]:
        source = SourceCode(self._comfy_dir)
        digests = {rule.name: source.digest(rule.code) for rule in RULES}
        off = [rule.name for rule in RULES if digests[rule.name] != rule.sha256]
        if off:
            log.warning("pruning rules are off: they were proved for another ComfyUI", rules=off)
        return frozenset(digests) - frozenset(off)
