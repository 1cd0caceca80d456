"""Work of a caller's workflow that can't change a pixel, found by rules and left out."""

from handler.pruning.prune import PrunedWork, prune
from handler.pruning.rules import RULES

__all__ = ["RULES", "PrunedWork", "prune"]
