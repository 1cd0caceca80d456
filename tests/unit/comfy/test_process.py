import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from handler.comfy.process import ComfyExit, ComfyPaths, ComfyProcess, comfy_argv
from handler.errors import ComfyUnavailable
from handler.settings import child_environment
from tests.fakes.comfy import free_port

PROJECT_DIR = Path(__file__).resolve().parents[3]
CHILDREN = PROJECT_DIR / "tests" / "children"
LAUNCHER = PROJECT_DIR / "comfy" / "launch.py"
PATHS = ComfyPaths.under(Path("/run-dir"))

MakeProcess = Callable[..., ComfyProcess]


def wait_until(is_met: Callable[[], object], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_met():
        assert time.monotonic() < deadline, f"not met within {timeout_s} s"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Also false for a zombie: it runs no more, and its new parent has yet to reap it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def open_files() -> list[str]:
    return sorted(file.name for file in Path("/proc/self/fd").iterdir())


def end(pid: int) -> None:
    if is_running(pid):
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_running(pid))


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def make(lines: list[str]) -> Iterator[MakeProcess]:
    """Makes a process that runs one of tests/children; it is stopped at the end."""
    made = []

    def make(
        child: str,
        *arguments: str,
        port: int | None = None,
        memory_limit_bytes: int | None = None,
        **env: str,
    ) -> ComfyProcess:
        process = ComfyProcess(
            [sys.executable, str(CHILDREN / f"{child}.py"), *arguments],
            launcher=LAUNCHER,
            port=port or free_port(),
            env=child_environment({**os.environ, **env}),
            on_line=lines.append,
            memory_limit_bytes=memory_limit_bytes,
        )
        made.append(process)
        return process

    yield make
    for process in made:
        process.stop()


def ended(process: ComfyProcess) -> ComfyExit:
    wait_until(process.exit)
    result = process.exit()
    assert result is not None
    return result


def test_a_started_child_runs(make: MakeProcess, lines: list[str]) -> None:
    process = make("never_ready")
    process.start()
    wait_until(lambda: lines)
    assert process.exit() is None
    assert process.pid is not None
    assert is_running(process.pid)


def test_a_process_that_was_never_started_counts_as_ended(make: MakeProcess) -> None:
    process = make("never_ready")
    assert process.pid is None
    assert process.exit() == ComfyExit(0, ())


def test_an_ended_child_tells_its_exit_code_and_its_last_lines(make: MakeProcess) -> None:
    process = make("exits_at_boot")
    process.start()
    exit_ = ended(process)
    assert exit_.exit_code == 3
    assert exit_.reason == "exit code 3"
    # stdout and stderr of a pipe are not in step, so their order is not looked at.
    assert sorted(exit_.log_tail) == ["ImportError: no module named wool", "Loading the model zoo"]


def test_a_child_killed_with_sigkill_is_said_to_lack_memory(
    make: MakeProcess, lines: list[str]
) -> None:
    process = make("never_ready")
    process.start()
    wait_until(lambda: lines)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    exit_ = ended(process)
    assert exit_.exit_code == -signal.SIGKILL
    assert exit_.reason == "killed by SIGKILL, likely for lack of memory"


def test_a_child_ended_by_another_signal_is_said_so() -> None:
    assert ComfyExit(-signal.SIGSEGV, ()).reason == "killed by SIGSEGV"


def test_an_unnamed_signal_is_told_by_its_number() -> None:
    assert ComfyExit(-40, ()).reason == "killed by signal 40"


def test_stop_ends_the_child_and_leaves_no_zombie(make: MakeProcess, lines: list[str]) -> None:
    process = make("never_ready")
    process.start()
    pid = process.pid
    wait_until(lambda: lines)
    process.stop()
    assert not Path(f"/proc/{pid}").exists()
    assert process.pid is None


def test_stopping_twice_is_harmless(make: MakeProcess) -> None:
    process = make("never_ready")
    process.start()
    process.stop()
    process.stop()
    assert process.exit() is not None


def test_stopping_what_was_never_started_is_harmless(make: MakeProcess) -> None:
    make("never_ready").stop()


def test_stopping_a_child_that_has_ended_is_harmless(make: MakeProcess) -> None:
    process = make("exits_at_boot")
    process.start()
    ended(process)
    process.stop()


def test_a_child_that_ignores_sigterm_is_killed_after_the_grace(
    make: MakeProcess, lines: list[str]
) -> None:
    process = make("ignores_sigterm")
    process.start()
    pid = process.pid
    wait_until(lambda: lines)
    began = time.monotonic()
    process.stop()
    assert time.monotonic() - began < 5
    assert not Path(f"/proc/{pid}").exists()


def test_a_child_without_grace_is_killed_at_once(make: MakeProcess) -> None:
    process = make("never_ready")
    process.start()
    process.stop(grace_s=0)
    result = ended(process)
    assert (result.exit_code, result.was_stopped) == (-signal.SIGKILL, True)


class Undying(subprocess.Popen[bytes]):
    """As a child that hangs in a driver: SIGKILL does not end it, until `may_end`."""

    may_end = False

    def wait(self, timeout: float | None = None) -> int:
        if self.may_end:
            return super().wait(timeout)
        assert timeout is not None, "waits for ever"
        raise subprocess.TimeoutExpired(self.args, timeout)

    def poll(self) -> int | None:
        return super().poll() if self.may_end else None


@pytest.fixture
def undying(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Undying]]:
    """Popen, until the end of the test."""
    monkeypatch.setattr(subprocess, "Popen", Undying)
    yield Undying
    Undying.may_end = False


def test_a_child_that_outlives_sigkill_asks_for_another_worker_and_has_no_successor(
    make: MakeProcess, undying: type[Undying]
) -> None:
    process = make("never_ready")
    process.start()
    pid = process.pid
    for act in (process.stop, process.stop, process.start):
        with pytest.raises(ComfyUnavailable, match="not even by SIGKILL") as caught:
            act()
        assert caught.value.refresh_worker
        assert process.is_stuck
    assert process.pid == pid
    # The real child has to be gone: it is waited for no more.
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    undying.may_end = True
    process.start()
    assert not process.is_stuck
    assert process.pid != pid
    process.stop()


def test_a_killed_child_has_still_to_be_stopped(make: MakeProcess, lines: list[str]) -> None:
    process = make("spawns_grandchild")
    process.start()
    wait_until(lambda: lines)
    process.kill()
    assert ended(process).exit_code == -signal.SIGKILL
    wait_until(lambda: not is_running(int(lines[0])))
    process.stop()
    process.kill()


def test_grandchildren_end_with_the_child(make: MakeProcess, lines: list[str]) -> None:
    process = make("spawns_grandchild")
    process.start()
    wait_until(lambda: lines)
    grandchild = int(lines[0])
    process.stop()
    wait_until(lambda: not is_running(grandchild))


def test_grandchildren_end_when_the_child_has_ended_before_them(
    make: MakeProcess, lines: list[str]
) -> None:
    process = make("spawns_grandchild", "exit")
    process.start()
    wait_until(lambda: lines)
    grandchild = int(lines[0])
    assert ended(process).exit_code == 0
    assert is_running(grandchild)
    process.stop()
    wait_until(lambda: not is_running(grandchild))


def test_an_escaped_grandchild_that_keeps_the_pipe_open_does_not_hold_up_stop(
    make: MakeProcess, lines: list[str]
) -> None:
    process = make("spawns_grandchild", "escape")
    process.start()
    wait_until(lambda: lines)
    try:
        began = time.monotonic()
        process.stop()
        assert time.monotonic() - began < 5
    finally:
        end(int(lines[0]))


def test_a_stopped_process_starts_again(make: MakeProcess, lines: list[str]) -> None:
    process = make("never_ready")
    process.start()
    first = process.pid
    wait_until(lambda: lines)
    process.stop()
    process.start()
    wait_until(lambda: len(lines) == 2)
    assert process.pid != first


def test_starting_a_running_process_ends_the_child_before(
    make: MakeProcess, lines: list[str]
) -> None:
    process = make("never_ready")
    process.start()
    first = process.pid
    wait_until(lambda: lines)
    process.start()
    assert not Path(f"/proc/{first}").exists()
    assert process.exit() is None


def test_the_log_tail_is_of_the_last_child_alone(make: MakeProcess) -> None:
    process = make("exits_at_boot")
    process.start()
    ended(process)
    process.start()
    assert len(ended(process).log_tail) == 2


def test_a_flood_of_output_does_not_block_the_child(make: MakeProcess, lines: list[str]) -> None:
    process = make("floods_stdout")
    process.start()
    exit_ = ended(process)
    assert exit_.exit_code == 0
    wait_until(lambda: lines[-1] == "the last line")
    assert len(exit_.log_tail) == 30
    assert max(map(len, lines)) <= 4000


def test_a_progress_bar_and_broken_text_pass_as_lines(make: MakeProcess, lines: list[str]) -> None:
    process = make("prints_progress")
    process.start()
    ended(process)
    assert lines[0].endswith("4/4")
    assert lines[1] == "\ufffd\ufffd broken"


def test_a_taken_port_is_told_with_the_variable_that_changes_it(make: MakeProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        process = make("never_ready", port=server.getsockname()[1])
        with pytest.raises(ComfyUnavailable, match="set COMFY_PORT to a free port"):
            process.start()
    assert process.pid is None


def test_a_port_taken_on_all_addresses_is_taken(make: MakeProcess) -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        process = make("never_ready", port=server.getsockname()[1])
        with pytest.raises(ComfyUnavailable, match="COMFY_PORT"):
            process.start()


def test_a_missing_python_is_told_by_its_path(tmp_path: Path) -> None:
    python = tmp_path / "no" / "python"
    process = ComfyProcess(
        [str(python), "main.py"], launcher=LAUNCHER, port=free_port(), env={}, on_line=print
    )
    with pytest.raises(ComfyUnavailable, match=f"{python}: No such file"):
        process.start()
    assert process.exit() == ComfyExit(0, ())


def test_a_python_that_may_not_be_run_is_told(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("no program")
    process = ComfyProcess(
        [str(python), "main.py"], launcher=LAUNCHER, port=free_port(), env={}, on_line=print
    )
    with pytest.raises(ComfyUnavailable, match="Permission denied"):
        process.start()


def test_keys_of_the_worker_do_not_reach_the_child(make: MakeProcess, lines: list[str]) -> None:
    process = make(
        "prints_environment",
        BUCKET_SECRET_ACCESS_KEY="secret",
        RUNPOD_AI_API_KEY="secret",
        HF_TOKEN="secret",
        CUDA_VISIBLE_DEVICES="0",
    )
    process.start()
    ended(process)
    assert "CUDA_VISIBLE_DEVICES" in lines
    assert not [name for name in lines if name.startswith(("BUCKET_", "RUNPOD_", "HF_"))]


def test_the_child_dies_with_a_worker_that_is_killed(tmp_path: Path) -> None:
    command = [
        sys.executable, str(CHILDREN / "worker.py"), str(free_port()), str(LAUNCHER),
        sys.executable, str(CHILDREN / "ignores_sigterm.py"),
    ]  # fmt: skip
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(PROJECT_DIR)}, stdout=subprocess.PIPE
    ) as worker:
        assert worker.stdout is not None
        try:
            child = int(worker.stdout.readline().split()[1])
            try:
                # By then it is the child itself, not the launcher, that has to go.
                assert worker.stdout.readline() == b"line deaf\n"
                worker.kill()
                wait_until(lambda: not is_running(child))
            finally:
                end(child)
        finally:
            worker.kill()


def test_the_launcher_does_not_start_a_child_of_a_worker_that_is_gone() -> None:
    not_our_pid = str(os.getpid() + 1)
    result = subprocess.run(
        [sys.executable, "-I", str(LAUNCHER), not_our_pid, sys.executable, "-c", "print('alive')"],
        capture_output=True,
        timeout=30,
    )
    assert result.returncode == 1
    assert result.stdout == b""
    assert b"was gone before its child started" in result.stderr


def test_no_file_stays_open_after_many_starts_and_stops(make: MakeProcess) -> None:
    process = make("never_ready")
    process.start()
    process.stop()
    before = open_files()
    for _ in range(20):
        process.start()
        process.stop()
    assert open_files() == before


def test_no_file_stays_open_when_children_end_by_themselves(make: MakeProcess) -> None:
    process = make("exits_at_boot")
    before = open_files()
    for _ in range(3):
        process.start()
        ended(process)
    process.stop()
    assert open_files() == before


def test_the_operators_flags_come_last() -> None:
    argv = comfy_argv(
        Path("/py"), Path("/comfy"), 8188, PATHS,
        cpu=False, memory_flags=["--highvram"], extra=["--listen", "0.0.0.0"],
    )  # fmt: skip
    assert argv[:3] == ["/py", "-u", "/comfy/main.py"]
    assert argv[-3:] == ["--highvram", "--listen", "0.0.0.0"]
    assert "--cpu" not in argv


def test_without_a_gpu_comfyui_is_told_so() -> None:
    assert "--cpu" in comfy_argv(Path("/py"), Path("/comfy"), 1, PATHS, cpu=True, extra=[])


def test_a_child_that_takes_too_much_memory_is_ended_and_the_reason_says_so(
    make: MakeProcess,
) -> None:
    process = make("takes_memory", memory_limit_bytes=300_000_000)
    process.start()
    wait_until(process.exit, 30)
    ended = process.exit()
    assert ended is not None
    assert ended.memory_bytes is not None
    assert 300_000_000 < ended.memory_bytes < 3_000_000_000
    assert ended.reason.endswith("GB of memory, more than COMFY_MEMORY_SHARE allows")


def test_the_next_child_is_told_of_for_itself(make: MakeProcess) -> None:
    process = make("takes_memory", memory_limit_bytes=300_000_000)
    process.start()
    wait_until(process.exit, 30)
    process.start()
    process.stop(grace_s=0)
    ended = process.exit()
    assert ended is not None
    assert ended.reason == "stopped by the worker"
