"""Which of ComfyUI's own nodes open or save files, against what the worker lets a job have."""

import ast
from collections.abc import Iterator
from pathlib import Path

from handler.workflow.files import FOLDER_LOADERS, OTHER_LOADERS, PICTURE_LOADERS, UNSEEN_SAVERS

COMFY = Path(__file__).resolve().parents[3] / "comfy" / "ComfyUI"
OPENS = ("get_annotated_filepath", "get_input_directory", "get_input_subfolders")


def classes_that_use(*functions: str) -> Iterator[tuple[str, str]]:
    """The node type and the source of each class that names one of the functions."""
    folders = ("comfy_extras", "comfy_api_nodes")
    for path in [
        COMFY / "nodes.py",
        *(path for of in folders for path in (COMFY / of).glob("*.py")),
    ]:
        text = path.read_text()
        if not any(function in text for function in functions):
            continue
        for item in ast.walk(ast.parse(text)):
            if isinstance(item, ast.ClassDef):
                source = ast.get_source_segment(text, item) or ""
                if any(function in source for function in functions):
                    yield node_type(item), source


def node_type(item: ast.ClassDef) -> str:
    """A schema's `node_id`, or the name of the class."""
    for part in ast.walk(item):
        if isinstance(part, ast.keyword) and part.arg == "node_id":
            assert isinstance(part.value, ast.Constant)
            return str(part.value.value)
    return item.name


def test_every_node_that_opens_a_file_by_name_is_known() -> None:
    known = {*PICTURE_LOADERS, *OTHER_LOADERS, *FOLDER_LOADERS}
    opening = {name for name, _ in classes_that_use(*OPENS)}
    assert len(opening) > 10
    assert opening <= known


def test_every_node_that_saves_elsewhere_than_under_its_prefix_is_known() -> None:
    known = {*FOLDER_LOADERS, *UNSEEN_SAVERS}
    saving = dict(classes_that_use("get_output_directory"))
    assert len(saving) > 15
    elsewhere = {
        name
        for name, source in saving.items()
        if '"filename_prefix"' not in source or '"folder_name"' in source
    }
    assert elsewhere
    assert elsewhere <= known
