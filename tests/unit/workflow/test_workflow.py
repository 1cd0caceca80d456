import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handler.errors import InvalidWorkflow
from handler.workflow.files import LoadedPicture
from handler.workflow.workflow import EditorGraph, Workflow, parse_workflow

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "qwen_image_edit_2509.json"
JOB = "job-folder"

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3)
    ),
    max_leaves=8,
)
IDS = st.sampled_from(["1", "2", "3", "433:3"])
LINKS = st.tuples(IDS, st.integers(-1, 2)).map(list)
INPUTS = st.dictionaries(
    st.sampled_from(["image", "images", "seed", "filename_prefix", "x"]),
    st.one_of(LINKS, st.sampled_from(["a.png", "../a", 5]), JSON),
    max_size=4,
)
CLASSES = st.sampled_from(["LoadImage", "LoadImageMask", "SaveImage", "KSampler"])
NODES = st.fixed_dictionaries({"class_type": CLASSES, "inputs": INPUTS})
WORKFLOWS = st.dictionaries(IDS, NODES, min_size=1, max_size=4)
# What a file name's prefix is made of, and what a path could be made to mean.
PREFIXES = st.one_of(
    st.text(alphabet="./\\%a b", max_size=12),
    st.lists(st.sampled_from(["..", ".", "", "a", "%date%"])).map("/".join),
    st.text(alphabet=st.characters(exclude_categories=()), max_size=12),
    st.integers(),
    st.booleans(),
)


def load(image: Any = "a.png", class_type: str = "LoadImage") -> dict[str, Any]:
    return {"class_type": class_type, "inputs": {"image": image}}


def save(prefix: Any = "out", images: Any = None) -> dict[str, Any]:
    inputs = {"filename_prefix": prefix, "images": images or ["1", 0]}
    return {"class_type": "SaveImage", "inputs": inputs}


def simple() -> dict[str, Any]:
    return {"1": load(), "2": save()}


def fault_of(value: Any) -> InvalidWorkflow:
    with pytest.raises(InvalidWorkflow) as caught:
        parse_workflow(value)
    return caught.value


def nested(levels: int, innermost: Any = 1) -> Any:
    for _ in range(levels):
        innermost = [innermost]
    return innermost


def prefix_for_job(prefix: Any) -> Any:
    return Workflow({"2": save(prefix)}).for_job(JOB, {})["2"]["inputs"]["filename_prefix"]


def seed_of(*inputs: dict[str, Any]) -> int | None:
    return Workflow(
        {str(index): {"class_type": "K", "inputs": of_one} for index, of_one in enumerate(inputs)}
    ).seed


def test_a_workflow_in_api_format_is_accepted_as_it_is() -> None:
    assert parse_workflow(simple()).nodes == simple()


def test_a_workflow_is_accepted_as_json_text_too() -> None:
    assert parse_workflow(json.dumps(simple())) == parse_workflow(simple())


def test_the_example_of_the_project_is_accepted() -> None:
    workflow = parse_workflow(EXAMPLE.read_text())
    assert [picture.class_type for picture in workflow.loaded_pictures] == ["LoadImage"]
    assert workflow.seed is not None


def test_a_node_without_inputs_gets_empty_ones() -> None:
    workflow = parse_workflow({"1": {"class_type": "Note", "_meta": {"title": "n"}}})
    assert workflow.nodes["1"] == {"class_type": "Note", "_meta": {"title": "n"}, "inputs": {}}


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ([], "a list"),
        (7, "a number"),
        (0.5, "a number"),
        (True, "true or false"),
        ("[1]", "a list"),
        ('"a"', "a text"),
        ("null", "null"),
    ],
)
def test_what_is_no_object_is_refused_by_its_kind(value: Any, kind: str) -> None:
    assert fault_of(value).message == (
        f"input.workflow must be an object of nodes in API format, not {kind}"
    )


@pytest.mark.parametrize("text", ["", "{", '{"1": }', "{'1': 2}", '{"a": ' + "9" * 5000 + "}"])
def test_a_text_that_is_not_json_is_refused_as_such(text: str) -> None:
    assert "a text that is not JSON" in fault_of(text).message


@pytest.mark.parametrize("value", [{}, "{}"])
def test_a_workflow_without_nodes_is_refused(value: Any) -> None:
    assert fault_of(value).message == "input.workflow has no nodes"


@pytest.mark.parametrize("levels", [99, 300, 100_000])
def test_a_text_that_is_nested_too_deeply_is_refused(levels: int) -> None:
    text = '{"1": {"class_type": "A", "inputs": {"x": ' + "[" * levels + "]" * levels + "}}}"
    assert fault_of(text).message == "input.workflow is nested too deeply"


@pytest.mark.parametrize("levels", [99, 300, 100_000])
def test_an_object_that_is_nested_too_deeply_is_refused(levels: int) -> None:
    node = {"class_type": "A", "inputs": {"x": nested(levels)}}
    assert fault_of({"1": node}).message == "input.workflow is nested too deeply"


def test_the_deepest_workflow_that_is_accepted_can_be_run() -> None:
    deep = {"class_type": "A", "inputs": {"x": nested(96)}}
    assert parse_workflow({"1": deep}).for_job(JOB, {})["1"]["inputs"]["x"] == nested(96)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_json_lacks_are_refused(number: float) -> None:
    node = {"class_type": "A", "inputs": {"x": number}}
    for value in ({"1": node}, json.dumps({"1": node})):
        assert "a value that JSON has not" in fault_of(value).message


@pytest.mark.parametrize(
    "nodes",
    [
        {"\ud800": simple()["1"]},
        {"1": {"class_type": "A\ud800"}},
        {"1": {"class_type": "A", "inputs": {"text": ["\udfff"]}}},
        {"nodes": [{"type": "\ud800"}]},
    ],
)
def test_a_text_that_has_no_utf8_is_refused(nodes: Any) -> None:
    for value in (nodes, json.dumps(nodes)):
        assert "a value that JSON has not" in fault_of(value).message


def test_the_graph_of_the_editor_is_left_to_be_converted() -> None:
    graph = {"nodes": [{"id": 1, "type": "LoadImage"}], "links": [], "version": 0.4}
    assert parse_workflow(graph) == EditorGraph(graph)
    assert parse_workflow(json.dumps(graph)) == EditorGraph(graph)


def test_a_graph_of_the_editor_that_is_too_deep_is_refused() -> None:
    nested: list[Any] = []
    for _ in range(500):
        nested = [nested]
    with pytest.raises(InvalidWorkflow, match="deep"):
        parse_workflow({"nodes": nested})


def test_a_body_of_the_prompt_route_is_refused_with_what_to_send() -> None:
    body = {"prompt": simple(), "client_id": "x"}
    assert "send the value of its `prompt`" in fault_of(body).message


def test_a_node_may_have_the_id_prompt() -> None:
    assert parse_workflow({"prompt": load()}).loaded_pictures[0].node_id == "prompt"


@pytest.mark.parametrize(("node", "kind"), [(None, "null"), ([], "a list"), ("x", "a text")])
def test_a_node_that_is_no_object_is_refused_by_its_id(node: Any, kind: str) -> None:
    fault = fault_of({"1": load(), "7": node})
    assert fault.message == f"input.workflow node '7' must be an object, not {kind}"
    assert fault.details == {"node_id": "7"}


@pytest.mark.parametrize(
    "node", [{}, {"class_type": ""}, {"class_type": None}, {"class_type": 3}, {"type": "LoadImage"}]
)
def test_a_node_without_a_class_type_is_refused_by_its_id(node: Any) -> None:
    fault = fault_of({"7": node})
    assert "node '7' has no class_type" in fault.message
    assert fault.details == {"node_id": "7"}


@pytest.mark.parametrize("inputs", [[], None, "x"])
def test_inputs_that_are_no_object_are_refused_by_their_node(inputs: Any) -> None:
    fault = fault_of({"7": {"class_type": "A", "inputs": inputs}})
    assert "node '7' (A): inputs must be an object" in fault.message
    assert fault.details == {"node_id": "7", "class_type": "A"}


def test_a_dangling_link_is_refused_by_both_its_ends() -> None:
    fault = fault_of({"2": save(images=["404", 0])})
    assert "node '2' (SaveImage): images is linked to node '404'" in fault.message
    assert fault.details == {"node_id": "2", "input": "images"}


def test_a_link_to_a_negative_output_is_refused() -> None:
    fault = fault_of({"1": load(), "2": save(images=["1", -1])})
    assert "images is linked to output -1" in fault.message
    assert fault.details == {"node_id": "2", "input": "images"}


def test_a_node_that_is_linked_to_itself_is_refused() -> None:
    assert "wait for each other: 2 -> 2" in fault_of({"2": save(images=["2", 0])}).message


def test_a_loop_of_links_is_refused_with_its_nodes() -> None:
    loop = {
        "a": {"class_type": "A", "inputs": {"x": ["b", 0]}},
        "b": {"class_type": "B", "inputs": {"x": ["c", 1]}},
        "c": {"class_type": "C", "inputs": {"x": ["a", 0]}},
        "d": load(),
    }
    message = fault_of(loop).message
    assert "nodes that wait for each other" in message
    assert {"a", "b", "c"} == set(message.partition("other: ")[2].split(" -> "))


def chain(length: int) -> dict[str, Any]:
    return {
        str(index): {"class_type": "A", "inputs": {"x": [str(index - 1), 0]} if index else {}}
        for index in range(length)
    }


def test_a_long_chain_of_nodes_is_no_loop() -> None:
    assert len(parse_workflow(chain(300)).nodes) == 300


def test_a_chain_that_would_end_comfyuis_executing_thread_is_refused() -> None:
    assert "chain of over 300" in fault_of(chain(1000)).message


def test_a_workflow_of_more_nodes_than_the_limit_is_refused_before_they_are_looked_at() -> None:
    many: dict[str, Any] = {str(number): None for number in range(1001)}
    fault = fault_of(many)
    assert "has 1001 nodes; the limit of this worker is 1000 (WORKER_MAX_NODES)" in fault.message
    assert fault.details == {"nodes": 1001, "limit_nodes": 1000}
    assert "has 1001 nodes" in fault_of({"nodes": [{}] * 1001}).message


@pytest.mark.parametrize("part", ["id", "class_type"])
def test_a_name_of_megabytes_is_refused_by_its_beginning(part: str) -> None:
    long = "x" * 5_000_000
    nodes = {long if part == "id" else "1": {"class_type": long if part == "class_type" else "A"}}
    message = fault_of(nodes).message
    assert "xxx" in message
    assert len(message) < 1000


@pytest.mark.parametrize("value", [["404"], ["404", 0, 0], ["404", "0"], [0.5, 0]])
def test_a_list_that_is_no_link_is_left_to_comfyui(value: list[Any]) -> None:
    assert parse_workflow({"1": {"class_type": "A", "inputs": {"x": value}}})


def test_pictures_are_found_in_both_nodes_that_load_them() -> None:
    workflow = parse_workflow({"1": load("a.png"), "2": load("b.png", "LoadImageMask")})
    assert workflow.loaded_pictures == [
        LoadedPicture("1", "LoadImage", "a.png"),
        LoadedPicture("2", "LoadImageMask", "b.png"),
    ]


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("a.png [input]", "a.png"),
        ("a [input].png", "a [input].png"),
        ("a.png [output]", "a.png [output]"),
        ("[input]", "[input]"),
    ],
)
def test_the_note_of_the_input_folder_is_no_part_of_a_name(image: str, name: str) -> None:
    assert parse_workflow({"1": load(image)}).loaded_pictures[0].name == name


@pytest.mark.parametrize("slot", [0.0, 0.5, True, -1])
def test_a_link_to_an_odd_output_is_refused_since_comfyui_takes_it_for_one(slot: Any) -> None:
    nodes = {"1": {"class_type": "A", "inputs": {}}, "2": {"class_type": "A", "inputs": {}}}
    nodes["2"]["inputs"] = {"x": ["1", slot]}
    assert "outputs are counted" in fault_of(nodes).message


@pytest.mark.parametrize("value", [["1", 0], 7, None, {"image": "/etc/x.png"}])
@pytest.mark.parametrize("class_type", ["LoadImage", "LoadImageMask", "LoadImageOutput"])
def test_a_picture_is_named_and_nothing_else(class_type: str, value: Any) -> None:
    nodes = {"1": {"class_type": "A", "inputs": {}}, "2": load(value, class_type)}
    assert "must be the name of a picture" in fault_of(nodes).message


def test_a_wrapped_name_is_a_name_that_must_be_sent() -> None:
    workflow = parse_workflow({"1": load({"__value__": {"__value__": "/etc/x.png"}})})
    assert [item.name for item in workflow.loaded_pictures] == ["/etc/x.png"]


def test_a_wrapped_prefix_stays_in_the_folder_of_the_job() -> None:
    save = {"class_type": "SaveImage", "inputs": {"filename_prefix": {"__value__": "stray"}}}
    nodes = parse_workflow({"1": save}).for_job(JOB, {})
    assert nodes["1"]["inputs"]["filename_prefix"] == f"{JOB}/stray"


def test_a_wrapped_list_stays_wrapped() -> None:
    """Else ComfyUI would take it for a link."""
    wrapped = {"__value__": ["1", 0]}
    workflow = parse_workflow({"1": {"class_type": "A", "inputs": {"x": wrapped}}})
    assert workflow.nodes["1"]["inputs"]["x"] == wrapped


@pytest.mark.parametrize("class_type", ["LoadLatent", "LoadAudio", "LoadVideo", "Load3D"])
def test_a_node_that_opens_another_kind_of_file_is_refused(class_type: str) -> None:
    nodes = {"1": {"class_type": class_type, "inputs": {"file": "/etc/passwd"}}}
    fault = fault_of(nodes)
    assert "a file that a job can't bring" in fault.message
    assert fault.details == {"node_id": "1", "class_type": class_type}


@pytest.mark.parametrize("class_type", ["LoadImageDataSetFromFolder", "LoadTrainingDataset"])
def test_a_node_that_opens_a_folder_of_all_jobs_is_refused(class_type: str) -> None:
    fault = fault_of({"1": {"class_type": class_type, "inputs": {"folder": "another-job"}}})
    assert "a folder that a job can't bring" in fault.message


@pytest.mark.parametrize("class_type", ["SaveLoRA", "SaveTrainingDataset"])
def test_a_node_whose_files_would_not_come_back_is_refused(class_type: str) -> None:
    fault = fault_of({"1": {"class_type": class_type, "inputs": {"folder_name": "/etc"}}})
    assert "files that don't come back" in fault.message


def test_every_loaded_picture_is_taken_from_the_folder_of_the_job() -> None:
    workflow = parse_workflow(
        {"1": load("a.png [input]"), "2": load("a.png"), "3": load("b.jpg", "LoadImageMask")}
    )
    nodes = workflow.for_job(JOB, {"a.png": "0.png", "b.jpg": "1.webp"})
    assert [nodes[node_id]["inputs"]["image"] for node_id in "123"] == [
        f"{JOB}/0.png",
        f"{JOB}/0.png",
        f"{JOB}/1.webp",
    ]


@pytest.mark.parametrize(
    ("prefix", "inside"),
    [
        ("out", "out"),
        ("a/b", "a/b"),
        ("", "ComfyUI"),
        ("/", "ComfyUI"),
        ("//", "ComfyUI"),
        (".", "ComfyUI"),
        ("..", "ComfyUI"),
        ("../../x", "x"),
        ("a/../../x", "x"),
        ("/etc/x", "etc/x"),
        ("//x", "x"),
        ("a//b/", "a/b"),
        ("%date%/x", "%date%/x"),
        ("..x/y..", "..x/y.."),
        # ComfyUI makes a text of it, too.
        (5, "5"),
    ],
)
def test_results_are_saved_inside_the_folder_of_the_job(prefix: Any, inside: str) -> None:
    assert prefix_for_job(prefix) == f"{JOB}/{inside}"


@pytest.mark.parametrize("prefix", [None, {"a": "/../../../x"}, {"__value__": ["/../x"]}])
def test_a_prefix_of_which_comfyui_makes_a_text_stays_inside_too(prefix: Any) -> None:
    first, _, rest = prefix_for_job(prefix).partition("/")
    assert first == JOB
    assert ".." not in rest.split("/")


def test_a_linked_prefix_is_joined_to_the_folder_of_the_job() -> None:
    text = {"class_type": "PrimitiveString", "inputs": {"value": "x"}}
    nodes = Workflow({"1": text, "2": save(["1", 0])}).for_job(JOB, {})
    joined, slot = nodes["2"]["inputs"]["filename_prefix"]
    assert slot == 0
    inside = nodes[joined]["inputs"]["string_b"][0]
    assert nodes[joined] == {
        "class_type": "StringConcatenate",
        "inputs": {"string_a": f"{JOB}/", "string_b": [inside, 0], "delimiter": ""},
    }
    assert nodes[inside] == {
        "class_type": "StringReplace",
        "inputs": {"string": ["1", 0], "find": "..", "replace": ""},
    }
    assert set(nodes) == {"1", "2", inside, joined}


def test_two_linked_prefixes_are_joined_apart() -> None:
    text = {"class_type": "PrimitiveString", "inputs": {"value": "x"}}
    nodes = Workflow({"1": text, "2": save(["1", 0]), "3": save(["1", 0])}).for_job(JOB, {})
    assert len(nodes) == 7


def test_what_is_not_of_the_job_stays_as_it_was_sent() -> None:
    node = {"class_type": "K", "inputs": {"seed": 1, "m": ["1", 0]}, "_meta": {"title": "t"}}
    workflow = Workflow({"1": load(), "3": node, "4": save(images=["3", 0])})
    assert workflow.for_job(JOB, {"a.png": "0.png"})["3"] == node


def test_a_node_at_an_end_without_a_prefix_differs_from_job_to_job() -> None:
    preview = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    empty = {"class_type": "EmptyImage", "inputs": {"width": 8}}
    workflow = Workflow({"1": empty, "2": preview})
    one, other = workflow.for_job("one", {}), workflow.for_job("other", {})
    assert one["1"] == other["1"] == empty
    assert one["2"] != other["2"]
    assert one["2"]["inputs"].items() > preview["inputs"].items()


def test_a_prompt_for_a_job_leaves_the_workflow_alone() -> None:
    workflow = parse_workflow({"1": load(), "2": save(["3", 0]), "3": save("b")})
    before = copy.deepcopy(workflow.nodes)
    workflow.for_job(JOB, {"a.png": "0.png"})["3"]["inputs"]["images"].append("more")
    assert workflow.nodes == before


def test_the_only_seed_is_the_seed() -> None:
    assert seed_of({"seed": 7}, {"steps": 4}) == 7
    assert seed_of({"noise_seed": 8}) == 8
    assert seed_of({"seed": 0}) == 0


def test_of_two_seeds_none_is_the_seed() -> None:
    assert seed_of({"seed": 7}, {"seed": 8}) is None
    assert seed_of({"seed": 7, "noise_seed": 8}) is None


def test_a_seed_that_is_linked_or_no_whole_number_is_unknown() -> None:
    assert seed_of({"seed": ["1", 0]}) is None
    assert seed_of({"seed": True}) is None
    assert seed_of({"seed": 1.5}) is None
    assert seed_of() is None


@settings(deadline=None)  # a busy machine is no fault
@given(
    st.one_of(
        WORKFLOWS,
        WORKFLOWS.map(json.dumps),
        JSON,
        st.dictionaries(IDS | st.sampled_from(["nodes", "prompt"]), NODES | JSON, max_size=3),
        st.text(alphabet='{}[]",:1e.nul ', max_size=30),
    )
)
def test_any_value_is_a_workflow_or_invalid_workflow(value: Any) -> None:
    try:
        workflow = parse_workflow(value)
    except InvalidWorkflow:
        return
    if isinstance(workflow, EditorGraph):
        return
    nodes = workflow.for_job(JOB, {item.name: "0.png" for item in workflow.loaded_pictures})
    assert set(workflow.nodes) <= set(nodes)
    json.dumps(nodes, allow_nan=False)


@settings(deadline=None)  # a busy machine is no fault
@given(PREFIXES)
def test_any_prefix_stays_inside_the_folder_of_the_job(prefix: Any) -> None:
    first, _, rest = prefix_for_job(prefix).partition("/")
    assert first == JOB
    assert not {"", ".", ".."} & set(rest.split("/"))
