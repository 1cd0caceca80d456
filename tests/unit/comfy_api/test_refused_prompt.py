import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handler.comfy_api.refused_prompt import needs_object_info, rejection

UNETS = ["qwen_image_edit_2509_fp8_e4m3fn.safetensors", "sd15.ckpt"]
TRACEBACK = ['  File "/comfy/execution.py", line 820, in validate_inputs\n    r = await do()\n']

NODES = {
    "37": {"class_type": "UNETLoader", "inputs": {"unet_name": "qwen_image_edit.safetensors"}},
    "3": {"class_type": "KSampler", "inputs": {"seed": 7}},
    "60": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}},
}


def refusal(**faults_by_node: list[dict[str, Any]]) -> dict[str, Any]:
    """The 400 of ComfyUI for an invalid graph; the nodes are given as `n37=[...]`."""
    errors = {name.removeprefix("n"): faults for name, faults in faults_by_node.items()}
    return {
        "error": {
            "type": "prompt_outputs_failed_validation",
            "message": "Prompt outputs failed validation",
            "details": "a list of all, line by line",
            "extra_info": {},
        },
        "node_errors": {
            node_id: {
                "errors": faults,
                "dependent_outputs": ["60"],
                "class_type": NODES[node_id]["class_type"],
            }
            for node_id, faults in errors.items()
        },
    }


def prompt_fault(kind: str, message: str, details: str = "") -> dict[str, Any]:
    error = {"type": kind, "message": message, "details": details, "extra_info": {}}
    return {"error": error, "node_errors": {}}


def fault(kind: str, message: str, details: str, **extra_info: Any) -> dict[str, Any]:
    return {"type": kind, "message": message, "details": details, "extra_info": extra_info}


def not_in_list(name: str, received: Any, input_config: Any) -> dict[str, Any]:
    return fault(
        "value_not_in_list",
        "Value not in list",
        f"{name}: '{received}' not in (list of length 21)",
        input_name=name,
        input_config=input_config,
        received_value=received,
    )


def object_info(name: str, config: Any, group: str = "required") -> dict[str, Any]:
    return {"UNETLoader": {"input": {group: {name: config}}}}


def message_of(answer: dict[str, Any], info: dict[str, Any] | None = None) -> str:
    return rejection(answer, NODES, info or {}).message


def test_a_value_that_is_in_no_list_is_told_with_the_nearest() -> None:
    answer = refusal(
        n37=[not_in_list("unet_name", "qwen_image_edit.safetensors", [UNETS, {"tooltip": "x"}])]
    )
    rejected = rejection(answer, NODES, {})
    assert rejected.message == (
        "node 37 (UNETLoader): unet_name 'qwen_image_edit.safetensors' is not in the list; "
        "nearest: 'qwen_image_edit_2509_fp8_e4m3fn.safetensors'"
    )
    assert rejected.details["node_errors"]["37"] == [
        {
            "type": "value_not_in_list",
            "input": "unet_name",
            "received": "qwen_image_edit.safetensors",
            "nearest": ["qwen_image_edit_2509_fp8_e4m3fn.safetensors"],
            "options": UNETS,
            "message": "unet_name 'qwen_image_edit.safetensors' is not in the list; "
            "nearest: 'qwen_image_edit_2509_fp8_e4m3fn.safetensors'",
        }
    ]


def test_the_nearest_value_is_found_whatever_its_case() -> None:
    answer = refusal(n3=[not_in_list("sampler_name", "EULER", [["ddim", "euler"], {}])])
    assert message_of(answer).endswith("nearest: 'euler'")


def test_a_value_like_no_other_is_told_with_what_the_list_holds() -> None:
    answer = refusal(n3=[not_in_list("scheduler", "zzz", [["simple", "karras"], {}])])
    assert message_of(answer).endswith("is not in the list; it holds 'simple', 'karras'")


def test_of_a_long_list_only_the_first_ten_are_told() -> None:
    options = [f"option {index}" for index in range(15)]
    answer = refusal(n3=[not_in_list("scheduler", "zzz", [options, {}])])
    rejected = rejection(answer, NODES, {})
    assert rejected.message.endswith("'option 9', ...")
    assert rejected.details["node_errors"]["3"][0]["options"] == options[:10]


@pytest.mark.parametrize("config", [[[], {}], [[]]])
def test_an_empty_list_is_told_as_empty(config: Any) -> None:
    """As when no file lies in a folder of models."""
    answer = refusal(n37=[not_in_list("unet_name", "a.safetensors", config)])
    assert message_of(answer).endswith("is not in the list; the list is empty")


JOB = "6f1c9a52-0b7e-4a3d-9c11-2f60d1a7e9b4"


@pytest.mark.parametrize("other", [JOB, f"{JOB}.gone", f"{JOB}/0.png"])
@pytest.mark.parametrize("received", ["3d", JOB.replace("6", "7")])
def test_folders_of_other_jobs_are_not_told(other: str, received: str) -> None:
    options = [other, "a", "my-" + JOB]
    for config in ([options, {}], ["COMBO", {"options": options}]):
        answer = refusal(n3=[not_in_list("folder", received, config)])
        rejected = rejection(answer, NODES, {})
        assert rejected.details["node_errors"]["3"][0]["options"] == ["a", "my-" + JOB]
        assert other not in rejected.details["node_errors"]["3"][0]["nearest"]
        assert f"'{other}'" not in rejected.message


def test_numbers_in_a_list_are_compared_as_text() -> None:
    answer = refusal(n3=[not_in_list("size", 513, [[256, 512, 1024], {}])])
    assert message_of(answer).endswith("size '513' is not in the list; nearest: '512'")


@pytest.mark.parametrize("group", ["required", "optional"])
@pytest.mark.parametrize(
    "config",
    [[[*"abcdefghijklmnopqrst", *UNETS], {}], ["COMBO", {"options": [*"abcdef", *UNETS]}]],
    ids=["classic", "combo"],
)
def test_a_list_that_comfyui_left_out_is_taken_from_object_info(config: Any, group: str) -> None:
    answer = refusal(n37=[not_in_list("unet_name", "qwen_image_edit_2509.safetensors", None)])
    message = message_of(answer, object_info("unet_name", config, group))
    assert "nearest: 'qwen_image_edit_2509_fp8_e4m3fn.safetensors'" in message


def test_a_list_that_comfyui_gave_as_combo_is_read() -> None:
    config = ["COMBO", {"options": ["euler", "ddim"], "multiselect": False}]
    answer = refusal(n3=[not_in_list("sampler_name", "eular", config)])
    assert message_of(answer).endswith("nearest: 'euler'")


@pytest.mark.parametrize("info", [{}, {"UNETLoader": {}}, object_info("other", [["a"], {}])])
def test_a_list_that_nobody_knows_is_no_fault_of_its_own(info: dict[str, Any]) -> None:
    answer = refusal(n37=[not_in_list("unet_name", "a.safetensors", None)])
    assert "unet_name 'a.safetensors' is not in the list" in message_of(answer, info)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            fault("required_input_missing", "Required input is missing", "steps"),
            "node 3 (KSampler): Required input is missing: steps",
        ),
        (
            fault("value_smaller_than_min", "Value 0 smaller than min of 1", "steps"),
            "node 3 (KSampler): Value 0 smaller than min of 1: steps",
        ),
        (
            fault("value_bigger_than_max", "Value 10001 bigger than max of 10000", "steps"),
            "node 3 (KSampler): Value 10001 bigger than max of 10000: steps",
        ),
        (
            fault(
                "return_type_mismatch",
                "Return type mismatch between linked nodes",
                "model, received_type(IMAGE) mismatch input_type(MODEL)",
            ),
            "node 3 (KSampler): Return type mismatch between linked nodes: "
            "model, received_type(IMAGE) mismatch input_type(MODEL)",
        ),
        (
            fault(
                "bad_linked_input",
                "Bad linked input, must be a length-2 list of [node_id, slot_index]",
                "model",
            ),
            "node 3 (KSampler): Bad linked input, must be a length-2 list of "
            "[node_id, slot_index]: model",
        ),
        (
            fault(
                "invalid_input_type",
                "Failed to convert an input value to a INT value",
                "steps, four, invalid literal for int() with base 10: 'four'",
            ),
            "node 3 (KSampler): Failed to convert an input value to a INT value: "
            "steps, four, invalid literal for int() with base 10: 'four'",
        ),
        (
            fault(
                "custom_validation_failed",
                "Custom validation failed for node",
                "image - Invalid image file: a.png",
            ),
            "node 3 (KSampler): Custom validation failed for node: "
            "image - Invalid image file: a.png",
        ),
        (
            fault("exception_during_validation", "Exception when validating node", ""),
            "node 3 (KSampler): Exception when validating node",
        ),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_every_other_fault_is_told_in_comfyui_s_words_with_its_node(
    error: dict[str, Any], message: str
) -> None:
    assert message_of(refusal(n3=[error])) == message


def test_a_fault_names_its_input_for_programs() -> None:
    error = fault(
        "required_input_missing", "Required input is missing", "steps", input_name="steps"
    )
    details = rejection(refusal(n3=[error]), NODES, {}).details
    assert details["node_errors"]["3"][0]["input"] == "steps"


def test_three_faults_are_told_and_the_others_counted() -> None:
    missing = [
        fault("required_input_missing", "Required input is missing", name, input_name=name)
        for name in ("model", "positive", "negative", "steps", "cfg")
    ]
    rejected = rejection(refusal(n3=missing), NODES, {})
    assert "negative" in rejected.message
    assert "steps" not in rejected.message
    assert rejected.message.endswith(" (and 2 more)")
    assert len(rejected.details["node_errors"]["3"]) == 5


def test_faults_of_a_graph_that_is_valid_in_part_are_told() -> None:
    """ComfyUI answers 200 then, and `error` is missing."""
    answer = refusal(n3=[fault("required_input_missing", "Required input is missing", "steps")])
    del answer["error"]
    assert message_of({"prompt_id": "p", "number": 0, **answer}).startswith("node 3 (KSampler)")


def test_all_unknown_node_types_are_told_though_comfyui_stops_at_the_first() -> None:
    nodes = {
        "1": {"class_type": "LoadImag", "inputs": {}},
        "2": {"class_type": "VAEDecode", "inputs": {}},
        "3": {"class_type": "Zzzz", "inputs": {}},
    }
    answer = prompt_fault(
        "invalid_prompt",
        "Cannot execute because node LoadImag does not exist.",
        "Node ID '#1'",
    )
    rejected = rejection(answer, nodes, {"LoadImage": {}, "VAEDecode": {}})
    assert rejected.message == (
        "node 1 (LoadImag): there is no node type 'LoadImag'; nearest: 'LoadImage'; "
        "node 3 (Zzzz): there is no node type 'Zzzz'"
    )
    assert set(rejected.details["node_errors"]) == {"1", "3"}
    assert rejected.details["node_errors"]["1"][0]["type"] == "unknown_class_type"
    assert rejected.details["node_errors"]["1"][0]["nearest"][0] == "LoadImage"


def test_a_workflow_that_saves_nothing_is_told_what_it_lacks() -> None:
    answer = prompt_fault("prompt_no_outputs", "Prompt has no outputs")
    assert message_of(answer) == "the workflow has no output node; add one such as SaveImage"


def test_a_refusal_of_another_kind_is_told_in_comfyui_s_words() -> None:
    assert message_of(prompt_fault("no_prompt", "No prompt", "none given")) == (
        "No prompt none given"
    )


def test_a_refusal_without_words_is_still_one() -> None:
    assert message_of({"error": {}, "node_errors": {}}) == "no reason given"


@pytest.mark.parametrize(
    "kind", ["exception_during_validation", "exception_during_inner_validation"]
)
def test_no_traceback_of_comfyui_is_ever_told(kind: str) -> None:
    error = fault(
        kind,
        "Exception when validating node",
        "'404'",
        exception_type="KeyError",
        exception_message="'404'",
        traceback=TRACEBACK,
        linked_node=["404", 0],
    )
    rejected = rejection(refusal(n60=[error]), NODES, {})
    told = rejected.message + json.dumps(rejected.details)
    assert "'404'" in told
    assert "execution.py" not in told
    assert "await do" not in told


@pytest.mark.parametrize(
    ("answer", "is_needed"),
    [
        (prompt_fault("invalid_prompt", "no such node"), True),
        (prompt_fault("prompt_no_outputs", "no outputs"), False),
        (refusal(n37=[not_in_list("unet_name", "a", None)]), True),
        (refusal(n37=[not_in_list("unet_name", "a", [UNETS, {}])]), False),
        (refusal(n3=[fault("value_smaller_than_min", "too small", "steps")]), False),
        ({}, False),
    ],
)
def test_object_info_is_asked_for_only_when_comfyui_left_something_out(
    answer: dict[str, Any], is_needed: bool
) -> None:
    assert needs_object_info(answer) is is_needed


@settings(deadline=None)  # a busy machine is no fault
@given(
    st.text(max_size=20) | st.integers() | st.lists(st.integers(), max_size=2),
    st.lists(st.text(max_size=10) | st.integers(), max_size=25),
)
def test_any_value_and_any_list_give_options_that_are_in_the_list(
    received: Any, options: list[Any]
) -> None:
    answer = refusal(n3=[not_in_list("x", received, [options, {}])])
    told = rejection(answer, NODES, {}).details["node_errors"]["3"][0]
    texts = [str(option) for option in options]
    assert set(told["nearest"]) <= set(texts)
    assert told["options"] == texts[:10]


def test_a_workflow_with_thousands_of_faults_is_answered_with_the_first_twenty() -> None:
    nodes = {str(index): {"class_type": f"Nope{index}", "inputs": {}} for index in range(5000)}
    answer = {"error": {"type": "invalid_prompt"}, "node_errors": {}}
    error = rejection(answer, nodes, {"SaveImage": {}})
    assert len(error.details["node_errors"]) == 20
