import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handler.comfy_api.history import (
    Execution,
    in_order_of,
    no_output,
    node_error,
    read_execution,
    span_of,
)
from handler.comfy_api.node_outputs import NodeText, SavedFile
from handler.errors import (
    ComfyProtocol,
    DiskFull,
    Interrupted,
    NodeFailed,
    NoOutput,
    OutOfMemory,
    WorkerError,
)

# As ComfyUI's PromptExecutor.handle_execution_error fills it.
TRACEBACK = ['  File "/comfy/execution.py", line 515, in execute\n    output_data = await get()\n']


def image(name: str, folder_type: str = "output", subfolder: str = "job") -> dict[str, str]:
    return {"filename": name, "subfolder": subfolder, "type": folder_type}


def message(name: str, timestamp: int = 1_790_000_000_000, **data: Any) -> list[Any]:
    return [name, {"prompt_id": "p", **data, "timestamp": timestamp}]


def entry_of(outputs: Any, status_str: str = "success", *messages: list[Any]) -> dict[str, Any]:
    is_success = status_str == "success"
    return {
        "prompt": [0, "p", {}, {"client_id": "p", "create_time": 1_790_000_000_000}, ["60"]],
        "outputs": outputs,
        "status": {
            "status_str": status_str,
            "completed": is_success,
            "messages": [
                *(messages or [message("execution_start")]),
                *([message("execution_success")] if is_success and not messages else []),
            ],
        },
        "meta": {"60": {"node_id": "60", "display_node": "60", "real_node_id": "60"}},
    }


def failed_entry(exception_type: str, exception_message: str) -> dict[str, Any]:
    return entry_of(
        {"60": {"images": [image("early.png")]}},
        "error",
        message("execution_start"),
        message("execution_cached", nodes=[]),
        message(
            "execution_error",
            node_id="3",
            node_type="KSampler",
            executed=["37"],
            exception_message=exception_message,
            exception_type=exception_type,
            traceback=TRACEBACK,
            current_inputs={"seed": ["7"]},
            current_outputs=["37"],
        ),
    )


def read(entry: Any, **wishes: bool) -> Execution:
    return read_execution(entry, "job", **wishes)


def fault_of(entry: Any) -> WorkerError:
    with pytest.raises(WorkerError) as caught:
        read(entry)
    return caught.value


def test_a_success_has_its_files_in_the_order_of_the_nodes() -> None:
    outputs = {
        "60": {"images": [image("a.png"), image("b.png", subfolder="job/x")]},
        "9": {"images": [image("c.webp", subfolder="")], "animated": [True]},
    }
    assert read(entry_of(outputs)).files == (
        SavedFile("60", "a.png", "job", "output"),
        SavedFile("60", "b.png", "job/x", "output"),
        SavedFile("9", "c.webp", "", "output"),
    )


def test_the_times_of_a_success_are_in_seconds() -> None:
    entry = entry_of(
        {"60": {"images": [image("a.png")]}},
        "success",
        message("execution_start", 1_790_000_000_500),
        message("execution_cached", 1_790_000_000_600, nodes=["37"]),
        message("execution_success", 1_790_000_004_000),
    )
    execution = read(entry)
    assert (execution.started_at_s, execution.ended_at_s) == (1_790_000_000.5, 1_790_000_004.0)


def test_times_that_comfyui_does_not_tell_are_unknown() -> None:
    told = (["execution_start", {}], ["execution_success", {}])
    entry = entry_of({"60": {"images": [image("a.png")]}}, "success", *told)
    execution = read(entry)
    assert (execution.started_at_s, execution.ended_at_s) == (None, None)


PREVIEW_AND_PICTURE = {
    "5": {"images": [image("p.png", "temp")]},
    "60": {"images": [image("a.png")]},
}


def test_previews_are_left_out_unless_wanted() -> None:
    assert [file.filename for file in read(entry_of(PREVIEW_AND_PICTURE)).files] == ["a.png"]


def test_previews_that_are_wanted_come_after_what_was_saved() -> None:
    files = read(entry_of(PREVIEW_AND_PICTURE), wants_previews=True).files
    assert [file.filename for file in files] == ["a.png", "p.png"]


@pytest.mark.parametrize("wants_previews", [True, False])
def test_what_a_loader_shows_of_its_own_is_no_output(wants_previews: bool) -> None:
    outputs = {"1": {"images": [image("photo.png", "input")]}, "60": {"images": [image("a.png")]}}
    files = read(entry_of(outputs), wants_previews=wants_previews).files
    assert [file.filename for file in files] == ["a.png"]


def test_a_file_that_two_nodes_show_is_the_first_one_s() -> None:
    clip = image("a.mp4")
    outputs = {"3": {"gifs": [clip], "videos": [clip]}, "4": {"result": ["job/a.mp4"]}}
    assert read(entry_of(outputs)).files == (SavedFile("3", "a.mp4", "job", "output"),)


def test_a_run_with_only_texts_is_a_success() -> None:
    execution = read(entry_of({"4": {"text": ["a caption"]}}))
    assert (execution.files, execution.texts) == ((), (NodeText("4", "a caption"),))


def test_a_run_that_failed_between_two_nodes_is_no_success() -> None:
    """ComfyUI then says "success" and has the error among its messages."""
    entry = entry_of(
        {"60": {"images": [image("a.png")]}},
        "success",
        message("execution_start"),
        message("execution_error", node_id="1", node_type="EmptyImage",
                exception_type="graph.DependencyCycleError", exception_message="cycle"),
    )  # fmt: skip
    assert type(fault_of(entry)) is NodeFailed


def test_only_previews_are_no_output_and_the_fault_says_what_to_use() -> None:
    fault = no_output(read(entry_of({"5": {"images": [image("p.png", "temp")]}})))
    assert type(fault) is NoOutput
    assert "SaveImage instead of a PreviewImage" in fault.message
    assert "input.output.previews" in fault.message


def test_only_previews_are_enough_when_they_are_wanted() -> None:
    entry = entry_of({"5": {"images": [image("p.png", "temp")]}})
    assert [file.folder_type for file in read(entry, wants_previews=True).files] == ["temp"]


@pytest.mark.parametrize(
    "outputs",
    [{}, {"4": {"value": [7], "result": ["x", None]}}, {"1": {"images": []}}, {"1": {"text": []}}],
)
def test_a_run_without_files_or_texts_is_told_what_saves_some(outputs: dict[str, Any]) -> None:
    fault = no_output(read(entry_of(outputs)))
    assert type(fault) is NoOutput
    assert "a node such as SaveImage" in fault.message


def test_a_node_that_raised_is_named_with_what_it_raised() -> None:
    fault = fault_of(failed_entry("RuntimeError", "mat1 and mat2 do not fit\n"))
    assert type(fault) is NodeFailed
    assert fault.message == "node 3 (KSampler) raised RuntimeError: mat1 and mat2 do not fit"
    assert fault.details == {
        "node_id": "3",
        "class_type": "KSampler",
        "exception_type": "RuntimeError",
    }


@pytest.mark.parametrize(
    "exception_type",
    ["torch.OutOfMemoryError", "torch.cuda.OutOfMemoryError", "MemoryError"],
)
def test_every_kind_of_memory_that_ran_out_is_out_of_memory(exception_type: str) -> None:
    fault = fault_of(failed_entry(exception_type, "Allocation on device"))
    assert type(fault) is OutOfMemory
    assert fault.details["exception_type"] == exception_type


@pytest.mark.parametrize(
    ("exception_type", "message"),
    [
        ("OSError", "[Errno 28] No space left on device: 'x.png'"),
        ("OSError", "[Errno 122] Disk quota exceeded"),
        ("av.error.OSError", "[Errno 28] No space left on device: 'x.mp4'"),
        (
            "safetensors._safetensors_rust.SafetensorError",
            "Error while serializing: I/O error: No space left on device (os error 28)",
        ),
    ],
)
def test_a_full_disk_is_told_as_such_and_what_to_do(exception_type: str, message: str) -> None:
    fault = fault_of(failed_entry(exception_type, message))
    assert type(fault) is DiskFull
    assert fault.message.startswith(f"node 3 (KSampler) raised {exception_type}: {message}; give ")


@pytest.mark.parametrize(
    ("exception_type", "message"),
    [
        ("ValueError", "no folder '[Errno 28] No space left on device'"),
        ("ValueError", "[Errno 28] No space left on device"),
        ("FileNotFoundError", "[Errno 2] No such file or directory: 'No space left on device'"),
        ("OSError", "cannot identify image file 'Disk quota exceeded'"),
        (
            "safetensors._safetensors_rust.SafetensorError",
            "No such file or directory: No space left on device (os error 28)",
        ),
    ],
)
def test_a_callers_own_text_fills_no_disk(exception_type: str, message: str) -> None:
    assert type(fault_of(failed_entry(exception_type, message))) is NodeFailed


def test_a_broken_gpu_asks_for_another_worker() -> None:
    broken = fault_of(failed_entry("torch.AcceleratorError", "CUDA error: uncorrectable ECC error"))
    assert type(broken) is NodeFailed
    assert (broken.refresh_worker, broken.retryable) == (True, True)
    plain = fault_of(failed_entry("RuntimeError", "mat1 and mat2 do not fit"))
    assert (plain.refresh_worker, plain.retryable) == (False, False)


def test_what_a_node_raised_is_known_by_type_and_message() -> None:
    assert node_error(failed_entry("ValueError", "no")) == ("ValueError", "no")
    assert node_error(entry_of({}, "success", message("execution_success"))) is None
    assert node_error({}) is None


def test_the_advice_for_users_of_the_editor_is_left_out() -> None:
    advice = "This error means you ran out of memory on your GPU.\n\nTIPS: If the workflow worked"
    fault = fault_of(failed_entry("torch.OutOfMemoryError", f"Allocation on device \n{advice}"))
    assert fault.message.endswith("raised torch.OutOfMemoryError: Allocation on device")


@pytest.mark.parametrize("exception_type", ["RuntimeError", "torch.OutOfMemoryError"])
def test_nothing_of_a_traceback_or_of_a_node_s_values_is_told(exception_type: str) -> None:
    fault = fault_of(failed_entry(exception_type, "no"))
    told = fault.message + json.dumps(fault.details)
    assert "execution.py" not in told
    assert "output_data" not in told
    assert "seed" not in told


def test_an_interrupted_run_is_interrupted() -> None:
    entry = entry_of(
        {},
        "error",
        message("execution_start"),
        message("execution_interrupted", node_id="3", node_type="KSampler", executed=[]),
    )
    fault = fault_of(entry)
    assert type(fault) is Interrupted
    assert fault.retryable


def test_a_failed_run_never_gives_the_pictures_it_had_saved() -> None:
    """A client would take the part for the whole."""
    assert isinstance(fault_of(failed_entry("ValueError", "no")), NodeFailed)


def test_a_failed_run_without_a_reason_is_a_fault_of_the_protocol() -> None:
    fault = fault_of(entry_of({}, "error"))
    assert type(fault) is ComfyProtocol
    assert fault.message == "ComfyUI reports a failed run and no reason"


GOOD = entry_of({"60": {"images": [image("a.png")]}})


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {**GOOD, "status": None},
        {**GOOD, "status": {}},
        {**GOOD, "status": {"status_str": "success", "messages": None}},
        {**GOOD, "status": {"status_str": "success", "messages": [["execution_start"]]}},
        {**GOOD, "status": {"status_str": "success", "messages": [[{}, {}]]}},
        {**GOOD, "status": {"status_str": "error", "messages": [["execution_error", []]]}},
        {**GOOD, "outputs": None},
        {**GOOD, "outputs": []},
        {**GOOD, "outputs": {"60": None}},
        {**GOOD, "outputs": {"60": []}},
        {**GOOD, "outputs": {"60": {"images": None}}},
        {**GOOD, "outputs": {"60": {"images": ["a.png"]}}},
        {**GOOD, "outputs": {"60": {"images": [{"filename": "a.png"}]}}},
        {**GOOD, "outputs": {"60": {"images": [{**image("a.png"), "subfolder": 7}]}}},
        entry_of(GOOD["outputs"], "success", ["execution_success", {"timestamp": "now"}]),
        entry_of(GOOD["outputs"], "success", ["execution_success", ["timestamp"]]),
    ],
)
def test_an_odd_form_is_a_fault_of_the_protocol(entry: Any) -> None:
    fault = fault_of(entry)
    assert type(fault) is ComfyProtocol
    assert "unknown form" in fault.message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.sampled_from(["images", "text", "filename", "subfolder", "type", "timestamp"]),
            children,
            max_size=4,
        )
    ),
    max_leaves=10,
)
MESSAGES = st.lists(
    st.tuples(
        st.sampled_from(["execution_start", "execution_error", "execution_success", "x"]),
        st.fixed_dictionaries({}, optional={"timestamp": st.integers(), "node_id": JSON}) | JSON,
    ),
    max_size=3,
)
# Near to what is valid, so that what comes last is reached too.
STATUSES = st.fixed_dictionaries(
    {"status_str": st.sampled_from(["success", "error"]), "messages": MESSAGES}
)
FILES = st.fixed_dictionaries(
    {"filename": st.just("a.png"), "type": st.sampled_from(["output", "temp"]) | JSON},
    optional={"subfolder": st.just("")},
)
OUTPUTS = st.dictionaries(
    st.sampled_from("12"),
    st.fixed_dictionaries(
        {"images": st.lists(FILES, max_size=2)}, optional={"text": st.lists(JSON, max_size=2)}
    )
    | JSON,
    max_size=2,
)


@settings(deadline=None)  # a busy machine is no fault
@given(st.fixed_dictionaries({"status": STATUSES, "outputs": OUTPUTS}))
def test_any_entry_is_an_execution_or_a_fault_of_the_worker_s_own(entry: dict[str, Any]) -> None:
    with contextlib.suppress(WorkerError):
        assert isinstance(read(entry), Execution)


def test_outputs_come_in_the_order_of_the_workflows_nodes() -> None:
    entry = entry_of({"9": {"images": [image("c.png")]}, "10.0.0.1": {}, "4": {}, "2": {}})
    ordered = in_order_of({"4": {}, "9": {}, "2": {}}, entry)
    assert list(ordered["outputs"]) == ["4", "9", "2", "10.0.0.1"]
    assert ordered | {"outputs": entry["outputs"]} == entry
    assert in_order_of({}, {"outputs": None}) == {"outputs": None}


def test_a_span_is_from_the_start_to_the_end_however_it_ended() -> None:
    for ending in ("execution_success", "execution_error", "execution_interrupted"):
        messages = [["execution_start", {"timestamp": 1000}], [ending, {"timestamp": 3500}]]
        assert span_of({"status": {"messages": messages}}) == (1.0, 3.5)


@pytest.mark.parametrize(
    "entry", [{}, {"status": None}, {"status": {"messages": [["execution_start", {}], []]}}]
)
def test_what_did_not_begin_has_no_span(entry: dict[str, Any]) -> None:
    assert span_of(entry) is None
