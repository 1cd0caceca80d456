"""Applies the rules to a workflow."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from handler.pictures import InputImage
from handler.pruning.graph import Graph, copied
from handler.pruning.rules import RULES
from handler.workflow import ModelNames, Workflow


class PrunedWork(NamedTuple):
    """Nodes that a rule left out, and such as it left with less to do."""

    rule: str
    nodes: tuple[str, ...]


def prune(
    workflow: Workflow,
    pictures: Sequence[InputImage],
    models: ModelNames,
    rules: Collection[str],
    *,
    wants_previews: bool,
) -> tuple[Workflow, tuple[PrunedWork, ...]]:
    """The workflow without work that can't change a picture that the caller gets, by those of the
    rules that are named. `models` are the locked weights."""
    sent = {picture.name: picture for picture in pictures}
    sizes = {
        loaded.node_id: (picture.width, picture.height)
        for loaded in workflow.loaded_pictures
        if (picture := sent.get(loaded.name)) and picture.is_still
    }
    graph = Graph(workflow.nodes, sizes, models)
    done = []
    for rule in RULES:
        if rule.name not in rules or (rule.is_for_previews and wants_previews):
            continue
        before, running = copied(graph.nodes), graph.unknown_that_run()
        less = tuple(rule.apply(graph) or ())
        if graph.unknown_that_run() != running:
            graph.nodes = before
            continue
        graph.drop_unused()
        gone = tuple(node_id for node_id in before if node_id not in graph.nodes)
        if gone or less:
            done.append(PrunedWork(rule.name, gone + less))
    return (Workflow(graph.nodes), tuple(done)) if done else (workflow, ())
