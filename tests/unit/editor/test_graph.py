import copy
import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handler.editor.graph import convert_editor_graph
from handler.errors import InvalidWorkflow
from handler.workflow.workflow import parse_workflow

DATA = Path(__file__).resolve().parents[2] / "data" / "ui_graphs"
NAMES = sorted(path.stem for path in (DATA / "expected").iterdir())
OBJECT_INFO = json.loads(gzip.decompress((DATA / "object_info.json.gz").read_bytes()))
NOON = datetime(2025, 3, 9, 12, 5, 7, tzinfo=UTC)


def read(folder: str, name: str) -> Any:
    return json.loads((DATA / folder / f"{name}.json").read_text(encoding="utf-8"))


def definition(
    required: dict[str, Any], outputs: list[Any] | None = None, **more: Any
) -> dict[str, Any]:
    return {"input": {"required": required, **more}, "output": outputs or []}


SEED = ["INT", {"default": 0, "control_after_generate": True}]
NODES = {
    "Load": definition({"image": [["a.png", "b.png"], {"image_upload": True}]}, ["IMAGE", "MASK"]),
    "Sampler": definition(
        {
            "image": ["IMAGE"],
            "seed": SEED,
            "sampler": ["COMBO", {"options": ["euler", "heun"]}],
            "cfg": ["FLOAT", {"default": 8.0, "step": 0.1}],
        },
        ["IMAGE"],
        optional={"mask": ["MASK"], "note": ["STRING", {"default": "none"}]},
    ),
    "Text": definition({"text": ["STRING", {"multiline": True}]}, ["STRING"]),
    "Prompt": definition({"text": ["STRING", {"multiline": True, "dynamicPrompts": True}]}),
    "Number": definition({"value": ["INT", {"min": 16, "step": 16}]}, ["INT"]),
    "Scale": definition({"factor": ["FLOAT", {"step": 0.01, "max": 10}]}),
    "Save": definition(
        {"anything": ["IMAGE"], "format": ["COMFY_DYNAMICCOMBO_V3", {"options": [
            {"key": "png", "inputs": {"required": {"depth": ["COMBO", {"options": ["8", "16"]}]}}},
            {"key": "jpeg", "inputs": {
                "required": {"quality": ["INT", {"default": 90}]},
                "optional": {"icc": ["BOOLEAN", {}]},
            }},
        ]}], "prefix": ["STRING", {}]}
    ),
    "SaveImage": definition({"images": ["IMAGE"], "filename_prefix": ["STRING", {}]}),
    "Batch": definition({"images": ["COMFY_AUTOGROW_V3", {}]}, ["IMAGE"]),
    "Swap": definition({"a": ["MASK"], "b": ["IMAGE"], "c": ["IMAGE"]}, ["IMAGE", "MASK", "X"]),
    "Any": definition({"a": ["*"]}, ["*"]),
    "Forced": definition(
        {"one": ["STRING", {}], "two": ["STRING", {"forceInput": True}], "three": ["STRING", {}]}
    ),
    "Pick": definition({"names": ["COMBO", {"options": ["a", "b"], "multi_select": True}]}),
}  # fmt: skip


def node(node_id: int | str, kind: str, *values: Any, **more: Any) -> dict[str, Any]:
    """`links` maps an input to the id of its link; an input of the same name has a widget."""
    links = more.pop("links", {})
    widgets = more.pop("widgets", ())
    inputs = [
        {"name": name, "type": "*", "link": link}
        | ({"widget": {"name": name}} if name in widgets else {})
        for name, link in links.items()
    ]
    return {
        "id": node_id,
        "type": kind,
        "mode": 0,
        "inputs": inputs,
        "outputs": [],
        "widgets_values": list(values),
        **more,
    }


def graph(nodes: list[dict[str, Any]], *links: list[Any], **more: Any) -> dict[str, Any]:
    return {"version": 0.4, "nodes": nodes, "links": list(links), **more}


def convert(nodes: list[dict[str, Any]], *links: list[Any], **more: Any) -> Any:
    return convert_editor_graph(graph(nodes, *links, **more), NODES, choose=max, now=NOON)


def inputs(kind: str, *values: Any, **more: Any) -> Any:
    return convert([node(1, kind, *values, **more)])["1"]["inputs"]


def fault_of(value: Any, object_info: Any = NODES) -> InvalidWorkflow:
    with pytest.raises(InvalidWorkflow) as caught:
        convert_editor_graph(value, object_info)
    return caught.value


@pytest.mark.parametrize("name", NAMES)
def test_a_template_gives_what_the_editor_exports(name: str) -> None:
    assert convert_editor_graph(read("templates", name), OBJECT_INFO) == read("expected", name)


def test_the_answer_is_a_workflow_in_api_format() -> None:
    nodes = convert_editor_graph(read("templates", NAMES[0]), OBJECT_INFO)
    assert parse_workflow(nodes).nodes == nodes


# Widgets


def test_values_go_to_widgets_in_order_and_those_of_the_editor_alone_are_skipped() -> None:
    assert inputs("Load", "b.png", "image") == {"image": "b.png"}
    assert inputs("Sampler", 7, "randomize", "heun", 2.5, "hi") == {
        "seed": 7,
        "sampler": "heun",
        "cfg": 2.5,
        "note": "hi",
    }


def test_a_widget_without_a_value_has_its_default() -> None:
    defaults = {"seed": 0, "sampler": "euler", "cfg": 8.0, "note": "none"}
    assert inputs("Sampler") == defaults
    assert inputs("Sampler", widgets_values=None, mode=None, inputs=None) == defaults
    assert inputs("Sampler", 7)["seed"] == 7


def test_values_can_be_given_by_name() -> None:
    given_by_name = {"cfg": 3, "seed": 5, "preview": {"hidden": False}}
    assert inputs("Sampler", widgets_values=given_by_name) == {
        "seed": 5,
        "sampler": "euler",
        "cfg": 3,
        "note": "none",
    }


def test_input_order_says_the_order_of_the_widgets() -> None:
    ordered = definition({"a": ["STRING"], "b": ["STRING"]}) | {
        "input_order": {"required": ["b", "a"]}
    }
    nodes = convert_editor_graph(graph([node(1, "N", "first", "second")]), {"N": ordered})
    assert nodes["1"]["inputs"] == {"a": "second", "b": "first"}


def test_a_seed_has_a_control_unless_its_definition_says_no() -> None:
    kinds = {
        "Old": definition({"seed": ["INT"], "x": ["INT"]}),
        "New": definition({"seed": ["INT", {"control_after_generate": False}], "x": ["INT"]}),
        "List": definition({"c": [["a"], {"control_after_generate": True}], "x": ["INT"]}),
    }
    nodes = [
        node(1, "Old", 1, "fixed", 2),
        node(2, "New", 1, 2),
        node(3, "List", "a", "fixed", "", 2),
    ]
    answer = convert_editor_graph(graph(nodes), kinds)
    assert [entry["inputs"]["x"] for entry in answer.values()] == [2, 2, 2]


def test_a_dynamic_combo_gives_flat_dotted_names_of_the_chosen_option() -> None:
    assert inputs("Save", "png", "16", "out") == {
        "format": "png",
        "format.depth": "16",
        "prefix": "out",
    }
    assert inputs("Save", "jpeg", 80, True, "out") == {
        "format": "jpeg",
        "format.quality": 80,
        "format.icc": True,
        "prefix": "out",
    }


def test_inputs_that_grow_keep_their_links() -> None:
    nodes = [node(1, "Load", "a.png"), node(2, "Batch", links={"images.image0": 5})]
    assert convert(nodes, [5, 1, 0, 2, 0, "IMAGE"])["2"]["inputs"] == {"images.image0": ["1", 0]}


def test_a_list_is_wrapped_since_a_bare_one_is_a_link() -> None:
    assert inputs("Pick", ["a", "b"]) == {"names": {"__value__": ["a", "b"]}}


def test_an_old_value_of_an_input_that_can_only_be_linked_is_skipped() -> None:
    assert inputs("Forced", "1", "2", "3") == {"one": "1", "three": "3"}
    assert inputs("Forced", "1", "3") == {"one": "1", "three": "3"}


def test_a_text_area_has_text() -> None:
    assert inputs("Text", "a\r\nb\rc") == {"text": "a\nb\nc"}
    assert inputs("Text", None) == {"text": ""}
    assert inputs("Text", 5) == {"text": "5"}


def test_an_uploaded_file_is_named_with_its_folder() -> None:
    upload = {"image": ["COMBO", {"options": ["x.png"], "image_upload": True}]}
    kinds = {"L": definition(upload), "O": definition(copy.deepcopy(upload))}
    kinds["O"]["input"]["required"]["image"][1]["image_folder"] = "output"
    nodes = [
        node(1, "O", "a.png"),
        node(2, "O", "a.png [temp]"),
        node(3, "L", {"filename": "a.png", "subfolder": "s", "type": "temp"}),
        node(4, "L", ["a.png", "b.png"]),
        node(5, "L", ""),
    ]
    answer = convert_editor_graph(graph(nodes), kinds)
    assert [entry["inputs"]["image"] for entry in answer.values()] == [
        "a.png [output]",
        "a.png [temp]",
        "s/a.png [temp]",
        "a.png",
        "x.png",
    ]


def test_a_player_takes_no_place_and_a_viewer_does() -> None:
    kinds = {
        "LoadAudio": definition({"audio": ["COMBO", {"options": ["x"], "audio_upload": True}]}),
        "Preview3D": definition({"model_file": ["STRING", {}]}),
        "PreviewAny": definition({"source": ["*"]}),
    }
    nodes = [
        node(1, "LoadAudio", "a.mp3", ""),
        node(2, "Preview3D", "m.glb", "ignored"),
        node(3, "PreviewAny", "seen"),
    ]
    assert [entry["inputs"] for entry in convert_editor_graph(graph(nodes), kinds).values()] == [
        {"audio": "a.mp3", "audioUI": ""},
        {"model_file": "m.glb", "image": ""},
        {"preview": ""},
    ]


# Texts


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("plain", "plain"),
        ("{a|b} and {c|{d|e}}", "b and e"),
        ("{only}", "only"),
        (r"\{kept\|so\}", "{kept|so}"),
        ("a // comment\nb /* more\n */c", "a \nb c"),
        ("a /* open", "a /* open"),
        ("/*/ x */y", "y"),
        ("{a|b", "b"),
        ("end\\", "end\\"),
        (r"{a|b\}c}", "b}c"),
    ],
)
def test_a_dynamic_prompt_is_resolved(text: str, sent: str) -> None:
    assert inputs("Prompt", text) == {"text": sent}
    assert inputs("Text", text) == {"text": text}


def test_patterns_in_the_name_of_a_saved_file_are_replaced() -> None:
    nodes = [
        node(1, "SaveImage", "%date:yyyy-MM-dd_hhmmss%/%Steps.value%_%Text.text%_%no.thing%_%x%"),
        node(2, "Number", 32, title="Steps"),
        node(3, "Text", "a/b:c", properties={}),
    ]
    prefix = convert(nodes)["1"]["inputs"]["filename_prefix"]
    assert prefix == "2025-03-09_120507/32_a_b_c_%no.thing%_%x%"


# Links


def test_a_link_takes_the_place_of_a_widgets_value() -> None:
    nodes = [
        node(1, "Number", 32),
        node(2, "Sampler", 7, "fixed", links={"image": None, "seed": 4}, widgets=["seed"]),
    ]
    assert convert(nodes, [4, 1, 0, 2, 1, "INT"])["2"]["inputs"]["seed"] == ["1", 0]
    nodes[1]["inputs"][1]["link"] = None
    assert convert(nodes)["2"]["inputs"]["seed"] == 7


def test_an_input_of_a_widget_that_is_no_more_is_dropped_and_a_socket_stays() -> None:
    nodes = [
        node(1, "Number", 32),
        node(2, "Text", "t", links={"gone": 4, "extra": 5}, widgets=["gone"]),
    ]
    links = [[4, 1, 0, 2, 0, "INT"], [5, 1, 0, 2, 1, "INT"]]
    assert convert(nodes, *links)["2"]["inputs"] == {"text": "t", "extra": ["1", 0]}


@pytest.mark.parametrize(
    "links",
    [
        [[5, 1, 0, 2, 0, "IMAGE"]],
        [[5, "1", "0", "2", "0", "IMAGE"], None],
        [{"id": 5, "origin_id": 1, "origin_slot": 0, "target_id": 2, "target_slot": 0}],
        {"5": {"id": 5, "origin_id": 1, "origin_slot": 0, "target_id": 2, "target_slot": 0}},
    ],
)
def test_links_of_every_version_are_read(links: Any) -> None:
    nodes = [node(1, "Load", "a.png"), node(2, "SaveImage", "x", links={"images": 5})]
    answer = convert_editor_graph({"version": 1, "nodes": nodes, "links": links}, NODES)
    assert answer["2"]["inputs"] == {"images": ["1", 0], "filename_prefix": "x"}


def test_a_muted_node_goes_and_the_links_to_it() -> None:
    nodes = [node(1, "Load", "a.png", mode=2), node(2, "SaveImage", "x", links={"images": 5})]
    answer = convert(nodes, [5, 1, 0, 2, 0, "IMAGE"])
    assert answer == {"2": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}}}


def through(kind: str, output: int, taker: str, name: str, **given: int) -> Any:
    """What feeds input `name` behind a bypassed node whose inputs are given as output of node 1."""
    middle = node(2, kind, mode=4, links={key: 10 + i for i, key in enumerate(given)})
    nodes = [node(1, "Load", "a.png"), middle, node(3, taker, links={name: 20})]
    links = [[10 + i, 1, slot, 2, i, "*"] for i, slot in enumerate(given.values())]
    return convert(nodes, *links, [20, 2, output, 3, 0, "*"])["3"]["inputs"].get(name)


def test_a_bypassed_node_passes_on_the_input_of_the_same_type() -> None:
    assert through("Swap", 0, "SaveImage", "images", a=1, b=0) == ["1", 0]
    assert through("Swap", 1, "Sampler", "mask", a=1, b=0) == ["1", 1]
    assert through("Swap", 0, "SaveImage", "images", a=1) is None
    assert through("Load", 0, "SaveImage", "images") is None


def test_a_bypassed_node_passes_the_same_place_on_to_an_input_of_any_type() -> None:
    assert through("Swap", 0, "Any", "a", a=1, b=0) == ["1", 1]
    assert through("Load", 1, "Any", "a") is None


def test_a_bypassed_node_may_be_unknown() -> None:
    nodes = [
        node(1, "Load", "a.png"),
        node(2, "Nowhere", "x", mode=4, links={"in": 5}, outputs=[{"name": "o", "type": "IMAGE"}]),
        node(3, "SaveImage", "x", links={"images": 6}),
    ]
    answer = convert(nodes, [5, 1, 0, 2, 0, "IMAGE"], [6, 2, 0, 3, 0, "IMAGE"])
    assert answer["3"]["inputs"]["images"] == ["1", 0]


def test_reroutes_and_notes_vanish() -> None:
    nodes = [
        node(1, "Load", "a.png"),
        node(2, "Reroute", links={"": 5}),
        node(3, "Reroute", links={"": 6}),
        node(4, "SaveImage", "x", links={"images": 7}),
        node(5, "Note", "n"),
        node(6, "MarkdownNote", "n"),
        node(7, "SaveImage", "y", links={"images": 9}),
        node(8, "Reroute", links={"": None}),
    ]
    links = [[5, 1, 0, 2, 0], [6, 2, 0, 3, 0], [7, 3, 0, 4, 0], [9, 8, 0, 7, 0]]
    answer = convert(nodes, *links, extra={"reroutes": [{"id": 1, "linkIds": [5]}]})
    assert sorted(answer) == ["1", "4", "7"]
    assert answer["4"]["inputs"]["images"] == ["1", 0]
    assert "images" not in answer["7"]["inputs"]


@pytest.mark.parametrize(
    ("kind", "name", "value", "sent"),
    [
        ("Number", "value", 64, 64),
        ("Number", "value", 70, 64),
        ("Scale", "factor", 1.23456, 1.23),
        ("Scale", "factor", 99, 10),
        ("Text", "text", "from a primitive", "from a primitive"),
        ("Number", "value", "odd", "odd"),
        ("Scale", "factor", 1e308, 1e308),
    ],
)
def test_a_primitive_node_gives_its_value(kind: str, name: str, value: Any, sent: Any) -> None:
    nodes = [node(1, "PrimitiveNode", value, "fixed"), node(2, kind, links={name: 5})]
    nodes[1]["inputs"][0]["widget"] = {"name": name}
    assert convert(nodes, [5, 1, 0, 2, 0, "*"]) == {
        "2": {"class_type": kind, "inputs": {name: sent}}
    }


def test_a_primitive_node_can_hold_a_pattern() -> None:
    replace = {"Run widget replace on values": True}
    nodes = [
        node(1, "PrimitiveNode", "%date:yyyy%", properties=replace),
        node(2, "Text", links={"text": 5}),
    ]
    assert convert(nodes, [5, 1, 0, 2, 0, "*"])["2"]["inputs"] == {"text": "2025"}


# Subgraphs


def edge(name: str, *links: int, type: str = "*") -> dict[str, Any]:
    return {"id": name, "name": name, "type": type, "linkIds": list(links)}


def link(link_id: int, origin: int, slot: int, target: int, target_slot: int) -> dict[str, Any]:
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    return dict(zip(keys, (link_id, origin, slot, target, target_slot), strict=True))


def subgraph(name: str, nodes: list[Any], links: list[Any], **more: Any) -> dict[str, Any]:
    return {"id": name, "name": name, "nodes": nodes, "links": links, **more}


# An image and a text go in; the seed's widget is shown outside as `number`.
SUB = subgraph(
    "sub",
    [
        node(
            1,
            "Sampler",
            5,
            "fixed",
            "heun",
            1,
            "inner",
            links={"image": 1, "seed": 2, "note": 3},
            widgets=["seed", "note"],
        )
    ],
    [link(1, -10, 0, 1, 0), link(2, -10, 1, 1, 2), link(3, -10, 2, 1, 5), link(4, 1, 0, -20, 0)],
    inputs=[edge("picture", 1), edge("number", 2), edge("note", 3)],
    outputs=[edge("out", 4)],
)


def with_sub(*nodes: dict[str, Any], links: list[list[Any]], definitions: Any = (SUB,)) -> Any:
    return convert(list(nodes), *links, definitions={"subgraphs": list(definitions)})


def sub_inputs(instance: dict[str, Any], *more: dict[str, Any], links: Any = ()) -> Any:
    return with_sub(instance, *more, links=list(links))[f"{instance['id']}:1"]["inputs"]


def test_a_subgraph_is_unfolded_and_its_values_come_from_outside() -> None:
    answer = with_sub(
        node(1, "Load", "a.png"),
        node(2, "sub", 77, "outer", links={"picture": 5}),
        node(3, "SaveImage", "x", links={"images": 6}),
        links=[[5, 1, 0, 2, 0, "IMAGE"], [6, 2, 0, 3, 0, "IMAGE"]],
    )
    assert sorted(answer) == ["1", "2:1", "3"]
    assert answer["3"]["inputs"]["images"] == ["2:1", 0]
    assert answer["2:1"]["inputs"] == {
        "image": ["1", 0],
        "seed": 77,
        "sampler": "heun",
        "cfg": 1,
        "note": "outer",
    }


def test_a_subgraph_without_values_of_its_own_keeps_those_inside() -> None:
    found = sub_inputs(node(2, "sub"))
    assert (found["seed"], found["note"], "image" in found) == (5, "inner", False)
    assert sub_inputs(node(2, "sub", widgets_values={"note": "named"}))["note"] == "named"


def test_each_use_of_a_subgraph_has_its_own_values() -> None:
    answer = with_sub(node(2, "sub", 1, "one"), node(3, "sub", 2, "two"), links=[])
    assert [answer[key]["inputs"]["note"] for key in ("2:1", "3:1")] == ["one", "two"]


def test_a_link_into_a_subgraph_takes_the_place_of_its_widget() -> None:
    found = sub_inputs(node(2, "sub", 77, links={"number": 5}), node(1, "Number", 32), links=[
        [5, 1, 0, 2, 1, "INT"]
    ])  # fmt: skip
    assert found["seed"] == ["1", 0]


def test_a_primitive_node_gives_its_value_to_a_subgraph() -> None:
    instance = node(2, "sub", 77, links={"number": 5}, widgets=["number"])
    found = sub_inputs(instance, node(1, "PrimitiveNode", 9), links=[[5, 1, 0, 2, 1, "INT"]])
    assert found["seed"] == 9


def test_proxy_widgets_say_whose_the_values_are() -> None:
    proxies = [["1", "sampler"], ["-1", "note"], ["-1", "number"]]
    for given_as in (proxies, json.dumps(proxies)):
        instance = node(2, "sub", None, "outer", 8, properties={"proxyWidgets": given_as})
        found = sub_inputs(instance)
        assert (found["sampler"], found["note"], found["seed"]) == ("heun", "outer", 8)


def test_a_widget_shown_from_inside_takes_the_place_of_a_subgraphs_own() -> None:
    instance = node(2, "sub", properties={"proxyWidgets": [["1", "number"]]})
    instance["widgets_values"] = [None]
    assert sub_inputs(instance)["note"] == "inner"


@pytest.mark.parametrize("odd", ["[", 5, [[], 7, ["1"]], {"a": 1}])
def test_odd_proxy_widgets_are_ignored(odd: Any) -> None:
    assert sub_inputs(node(2, "sub", 4, properties={"proxyWidgets": odd}))["seed"] == 4


OUTER = subgraph(
    "outer",
    [node(7, "sub", 3, "middle", links={"picture": 1, "number": None, "note": 2})],
    [link(1, -10, 0, 7, 0), link(2, -10, 1, 7, 2), link(3, 7, 0, -20, 0), link(4, -10, 0, -20, 1)],
    inputs=[edge("picture", 1, 4), edge("words", 2)],
    outputs=[edge("out", 3), edge("same", 4), edge("nothing")],
)


def test_subgraphs_are_unfolded_in_subgraphs() -> None:
    nested = OUTER | {"definitions": {"subgraphs": [SUB]}}
    for definitions in ([OUTER, SUB], [SUB, OUTER], [nested]):
        answer = with_sub(
            node(1, "Load", "a.png"),
            node(2, "outer", "far out", links={"picture": 5}),
            *(node(3 + i, "SaveImage", "x", links={"images": 6 + i}) for i in range(3)),
            links=[[5, 1, 0, 2, 0, "IMAGE"], *([6 + i, 2, i, 3 + i, 0, "IMAGE"] for i in range(3))],
            definitions=definitions,
        )
        found = answer["2:7:1"]["inputs"]
        assert (found["image"], found["seed"], found["note"]) == (["1", 0], 3, "far out")
        assert answer["3"]["inputs"]["images"] == ["2:7:1", 0]
        assert answer["4"]["inputs"]["images"] == ["1", 0]
        assert "images" not in answer["5"]["inputs"]


def test_a_bypassed_subgraph_is_passed_by() -> None:
    definition = copy.deepcopy(SUB)
    definition["nodes"][0]["mode"] = 4
    definition["inputs"][0]["type"] = definition["outputs"][0]["type"] = "IMAGE"
    answer = with_sub(
        node(1, "Load", "a.png"),
        node(2, "sub", mode=4, links={"picture": 5}),
        node(3, "SaveImage", "x", links={"images": 6}),
        links=[[5, 1, 0, 2, 0, "IMAGE"], [6, 2, 0, 3, 0, "IMAGE"]],
        definitions=[definition],
    )
    assert sorted(answer) == ["1", "3"]
    assert answer["3"]["inputs"]["images"] == ["1", 0]


# Faults


def test_an_unknown_node_is_named_with_the_nearest_types() -> None:
    fault = fault_of(graph([node(4, "Samplr")]))
    assert "'4'" in fault.message
    assert "'Samplr'" in fault.message
    assert "Sampler" in fault.message
    assert fault.details == {"node_id": "4", "class_type": "Samplr"}
    assert "no known type is like it" in fault_of(graph([node(4, "????")])).message
    assert "group node" in fault_of(graph([node(4, "workflow>Mine")])).message


def loop(*nodes: dict[str, Any], links: list[list[Any]]) -> dict[str, Any]:
    return graph([*nodes, node(9, "SaveImage", links={"images": 1})], *links)


MALFORMED: dict[str, Any] = {
    "nodes must be a list": {"nodes": {}},
    "must be an object": [],
    "nodes[0] must be an object": graph([5]),  # type: ignore[list-item]
    "id must be": graph([{"type": "Load"}]),
    "type must be a text": graph([{"id": 1}]),
    "mode must be an integer": graph([node(1, "Load", mode="off")]),
    "two nodes '1'": graph([node(1, "Load"), node("1", "Load")]),
    "widgets_values must be": graph([node(1, "Load", widgets_values="a")]),
    "widget must be": graph([node(1, "Load", inputs=[{"widget": {"name": 5}}])]),
    "inputs must be a list": graph([node(1, "Load", inputs={})]) | {"nodes": [
        {"id": 1, "type": "Load", "inputs": {"a": 1}}
    ]},
    "link must be an integer": graph([node(1, "Load", links={"a": "x"})]),
    "links must be a list": graph([]) | {"links": 5},
    "origin_id must be": graph([], [1]),
    "links must be an object": graph([], 5),  # type: ignore[arg-type]
    "a slot must be": graph([], [1, 1, -1, 2, 0]),
    "linkIds must be": graph([], definitions={"subgraphs": [
        subgraph("s", [], [], inputs=[{"linkIds": ["a"]}])
    ]}),
    "has the link 7": graph([node(1, "SaveImage", links={"images": 7})]),
    "is linked to node '5'": graph([node(1, "SaveImage", links={"images": 7})], [7, 5, 0, 1, 0]),
    "is fed by itself": loop(
        node(1, "Reroute", links={"": 2}), node(2, "Reroute", links={"": 3}),
        links=[[1, 1, 0, 9, 0], [2, 2, 0, 1, 0], [3, 1, 0, 2, 0]],
    ),
    "through more than": loop(
        *(node(10 + i, "Reroute", links={"": 2 + i}) for i in range(600)),
        links=[[1, 10, 0, 9, 0], *([2 + i, 11 + i, 0, 10 + i, 0] for i in range(599))],
    ),
    "contains itself": graph([node(1, "s")], definitions={"subgraphs": [
        subgraph("s", [node(1, "t")], []), subgraph("t", [node(1, "s")], [])
    ]}),
    "unfolds to more than": graph([node(1, "s0")], definitions={"subgraphs": [
        subgraph(f"s{i}", [node(n, f"s{i + 1}") for n in range(10)], []) for i in range(9)
    ]}),
    "braces nested": graph([node(1, "Prompt", "{" * 2000)]),
    "has no output 4": loop(node(1, "sub"), links=[[1, 1, 4, 9, 0]])
    | {"definitions": {"subgraphs": [SUB]}},
    "output 'o' of its subgraph": loop(node(1, "s"), links=[[1, 1, 0, 9, 0]])
    | {"definitions": {"subgraphs": [
        subgraph("s", [], [link(1, 5, 0, -20, 0)], outputs=[edge("o", 1)])
    ]}},
    "input 3 of its subgraph": graph([node(1, "s")], definitions={"subgraphs": [
        subgraph("s", [node(1, "SaveImage", links={"images": 1})], [link(1, -10, 3, 1, 0)])
    ]}),
}  # fmt: skip


@pytest.mark.parametrize("said", MALFORMED)
def test_a_malformed_graph_is_refused_with_the_reason(said: str) -> None:
    assert said in fault_of(MALFORMED[said]).message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-20, 20) | st.floats() | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "type", "nodes", "links", "name", "link", "x"]),
            children,
            max_size=3,
        )
    ),
    max_leaves=8,
)
# Those with subgraphs, primitive nodes, bypassed nodes and many values.
MUTATED = ["02_qwen_Image_edit_subgraphed", "sd3.5_large_depth", "sdxl_refiner_prompt_example"]
REAL = {name: read("templates", name) for name in MUTATED}


def mutate(value: Any, draw: Callable[..., Any], levels: int) -> Any:
    """`value` with something below it replaced, removed, doubled or taken from elsewhere."""
    if not levels or not isinstance(value, dict | list) or not value:
        return draw(JSON)
    keys = sorted(value) if isinstance(value, dict) else range(len(value))
    key = draw(st.sampled_from(keys))
    action = draw(st.sampled_from(["inside", "inside", "inside", "inside", "drop", "swap"]))
    if action == "drop":
        del value[key]
    elif action == "swap":
        value[key] = copy.deepcopy(value[draw(st.sampled_from(keys))])
    else:
        value[key] = mutate(value[key], draw, levels - 1)
    return value


@st.composite
def mutated_graphs(draw: Callable[..., Any]) -> Any:
    value = copy.deepcopy(REAL[draw(st.sampled_from(MUTATED))])
    for _ in range(draw(st.integers(1, 4))):
        part = value
        if draw(st.booleans()) and isinstance(value, dict):
            part = value.get(draw(st.sampled_from(["nodes", "links", "definitions"]))) or value
        mutate(part, draw, draw(st.integers(1, 7)))
    return value


def check_converts_or_says_why(value: Any) -> None:
    try:
        nodes = convert_editor_graph(value, OBJECT_INFO)
    except InvalidWorkflow:
        return
    assert all(
        source[0] in nodes
        for entry in nodes.values()
        for source in entry["inputs"].values()
        if isinstance(source, list)
    )


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(mutated_graphs())
def test_a_mutated_graph_converts_or_is_refused(value: Any) -> None:
    check_converts_or_says_why(value)


@given(JSON | st.fixed_dictionaries({"nodes": st.lists(JSON, max_size=3), "links": JSON}))
def test_anything_converts_or_is_refused(value: Any) -> None:
    check_converts_or_says_why(value)
