"""The files that a workflow's nodes open and save: which a job may have, and where."""

import copy
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from handler.contract import FOLDER_NOTE
from handler.errors import InvalidWorkflow
from handler.workflow.links import is_link, links

# Core nodes that open a file whose name is an input; ComfyUI joins it to a folder and does not look
# whether it stays inside (folder_paths.get_annotated_filepath).
PICTURE_LOADERS = {"LoadImage": "image", "LoadImageMask": "image", "LoadImageOutput": "image"}
OTHER_LOADERS = frozenset(
    {
        "LoadLatent", "LoadAudio", "RecordAudio", "LoadVideo", "Load3D", "WebcamCapture",
        "GeminiInputFiles", "OpenAIInputFiles",
    }
)  # fmt: skip
# Their folders are those of all jobs: they would open another caller's files.
FOLDER_LOADERS = frozenset(
    {"LoadImageDataSetFromFolder", "LoadImageTextDataSetFromFolder", "LoadTrainingDataset"}
)
# They tell nobody what they have saved, and where is not up to `filename_prefix` alone.
UNSEEN_SAVERS = frozenset(
    {
        "SaveImageDataSetToFolder", "SaveImageTextDataSetToFolder", "SaveTrainingDataset",
        "SaveLoRA",
    }
)  # fmt: skip
# No node declares it. ComfyUI drops such an input before the call, yet counts it in the node's
# cache signature (execution.get_input_data, caching.get_immediate_node_signature).
_JOB_INPUT = "worker_job"


@dataclass(frozen=True, slots=True)
class LoadedPicture:
    """One place where the workflow loads a picture by name."""

    node_id: str
    class_type: str
    name: str


def loaded_pictures(nodes: Mapping[str, Mapping[str, Any]]) -> list[LoadedPicture]:
    return [
        LoadedPicture(node_id, node["class_type"], _without_folder_note(node["inputs"][name]))
        for node_id, node in nodes.items()
        if (name := PICTURE_LOADERS.get(node["class_type"])) and name in node["inputs"]
    ]


def check_files(node_id: str, class_type: str, inputs: Mapping[str, Any]) -> None:
    """Raises InvalidWorkflow for a node that opens or saves files which a job can't have."""
    where = f"input.workflow node {node_id!r}"
    details = {"node_id": node_id, "class_type": class_type}
    name = PICTURE_LOADERS.get(class_type)
    if name and name in inputs and not isinstance(inputs[name], str):
        raise InvalidWorkflow(
            f"{where} ({class_type}): {name} must be the name of a picture in input.images",
            **details,
        )
    if class_type in OTHER_LOADERS:
        raise InvalidWorkflow(
            f"{where}: {class_type} opens a file that a job can't bring; only pictures can be sent",
            **details,
        )
    if class_type in FOLDER_LOADERS:
        raise InvalidWorkflow(
            f"{where}: {class_type} opens a folder that a job can't bring; load each picture with "
            "LoadImage",
            **details,
        )
    if class_type in UNSEEN_SAVERS:
        raise InvalidWorkflow(
            f"{where}: {class_type} saves files that don't come back with the answer; pictures do "
            "with SaveImage",
            **details,
        )


def nodes_for_job(
    nodes: Mapping[str, Mapping[str, Any]], folder: str, files: Mapping[str, str]
) -> dict[str, Any]:
    """The nodes with their pictures and results under the job's own `folder`, which is new for
    each job; `files` maps a picture's name to its file's name there.

    ComfyUI's cache would answer with files of an earlier job, which are gone. So the nodes at the
    ends, which are those that save or show, get what no other job has. A node in the middle that
    shows a file of its own and has no `filename_prefix` is not found; ComfyUI itself has none.
    """
    pictures = loaded_pictures(nodes)
    linked = {link[0] for _, _, link in links(nodes)}
    out: dict[str, Any] = copy.deepcopy(dict(nodes))
    for picture in pictures:
        out[picture.node_id]["inputs"]["image"] = f"{folder}/{files[picture.name]}"
    for node_id in nodes:
        inputs = out[node_id]["inputs"]
        if "filename_prefix" in inputs:
            _save_inside(folder, node_id, out)
        elif node_id not in linked:
            inputs[_JOB_INPUT] = folder
    return out


def _save_inside(folder: str, node_id: str, nodes: dict[str, Any]) -> None:
    inputs = nodes[node_id]["inputs"]
    prefix = inputs["filename_prefix"]
    if is_link(prefix):
        inside, joined = f"{node_id}:{folder}:inside", f"{node_id}:{folder}:prefix"
        nodes[inside] = {
            "class_type": "StringReplace",
            "inputs": {"string": prefix, "find": "..", "replace": ""},
        }
        nodes[joined] = {
            "class_type": "StringConcatenate",
            "inputs": {"string_a": f"{folder}/", "string_b": [inside, 0], "delimiter": ""},
        }
        inputs["filename_prefix"] = [joined, 0]
    # Any other list ComfyUI refuses; of anything else it makes a text.
    elif not isinstance(prefix, list):
        inputs["filename_prefix"] = f"{folder}/{_inside(str(prefix))}"


def _without_folder_note(name: str) -> str:
    return name.removesuffix(FOLDER_NOTE).rstrip() if name.endswith(FOLDER_NOTE) else name


def _inside(prefix: str) -> str:
    """`prefix` as a path that can't leave the folder it is put in."""
    return posixpath.normpath(f"/{prefix}").lstrip("/") or "ComfyUI"
