"""One ComfyUI child process: start, alive or not, stop, last log lines. The policy is elsewhere."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from handler.comfy.memory_ceiling import watch_memory
from handler.errors import ComfyUnavailable

_LOG_TAIL_LINES = 30
_STOP_GRACE_S = 3.0
# From SIGKILL to the end: a child with tens of gigabytes takes seconds, one that hangs in the GPU's
# driver for ever.
_KILL_S = 10.0
_LONGEST_LINE = 4000


@dataclass(frozen=True, slots=True)
class ComfyExit:
    """How the child ended. `exit_code` is negative for a signal, as in subprocess."""

    exit_code: int
    log_tail: tuple[str, ...]
    was_stopped: bool = False
    # What it had taken when it was ended for that.
    memory_bytes: int | None = None

    @property
    def reason(self) -> str:
        if self.memory_bytes is not None:
            return (
                f"ended by the worker when it had taken {self.memory_bytes / 1e9:.1f} GB of "
                "memory, more than COMFY_MEMORY_SHARE allows"
            )
        if self.was_stopped:
            return "stopped by the worker"
        if self.exit_code >= 0:
            return f"exit code {self.exit_code}"
        try:
            name = signal.Signals(-self.exit_code).name
        except ValueError:  # a real-time signal has no name
            name = f"signal {-self.exit_code}"
        likely = ", likely for lack of memory" if name == "SIGKILL" else ""
        return f"killed by {name}{likely}"


@dataclass(frozen=True, slots=True)
class ComfyPaths:
    """Folders that ComfyUI reads and writes, all of the worker's own."""

    input_dir: Path
    output_dir: Path
    temp_dir: Path
    user_dir: Path
    editor_dir: Path
    models_dir: Path
    model_paths: Path

    @property
    def folders(self) -> tuple[Path, ...]:
        return (
            self.input_dir,
            self.output_dir,
            self.temp_dir,
            self.user_dir,
            self.editor_dir,
            self.models_dir,
        )

    @classmethod
    def under(cls, run_dir: Path) -> "ComfyPaths":
        return cls(
            run_dir / "input",
            run_dir / "output",
            run_dir / "temp",
            run_dir / "user",
            run_dir / "editor",
            run_dir / "models",
            run_dir / "model_paths.yaml",
        )


def comfy_argv(
    python: Path,
    comfy_dir: Path,
    port: int,
    paths: ComfyPaths,
    *,
    cpu: bool,
    memory_flags: Sequence[str] = (),
    extra: Sequence[str],
    bootstrap: Path | None = None,
) -> list[str]:
    """ComfyUI's command line. `bootstrap` is the script that runs main.py, if any; `extra` comes
    last, so an operator's flags win."""
    return [
        str(python), "-u", *([str(bootstrap)] if bootstrap else []), str(comfy_dir / "main.py"),
        "--listen", "127.0.0.1", "--port", str(port), "--disable-auto-launch",
        "--input-directory", str(paths.input_dir),
        "--output-directory", str(paths.output_dir),
        "--temp-directory", str(paths.temp_dir),
        "--user-directory", str(paths.user_dir),
        "--database-url", "sqlite:///:memory:",
        "--extra-model-paths-config", str(paths.model_paths),
        # The editor's packages are not installed: ComfyUI wants some folder to serve at /.
        "--front-end-root", str(paths.editor_dir),
        *(["--cpu"] if cpu else []),
        *memory_flags,
        *extra,
    ]  # fmt: skip


class ComfyProcess:
    """`start` and `stop` any number of times. Call `start` from the main thread: the kernel ties
    the child's life to the thread that made it (prctl(2), PR_SET_PDEATHSIG)."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        launcher: Path,
        port: int,
        env: Mapping[str, str],
        on_line: Callable[[str], None],
        memory_limit_bytes: int | None = None,
    ) -> None:
        self._argv = list(argv)
        self._launcher = launcher
        self._port = port
        self._env = dict(env)
        self._on_line = on_line
        self._memory_limit_bytes = memory_limit_bytes
        self._memory_bytes: int | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._ended = ComfyExit(0, ())
        self._tail: deque[str] = deque(maxlen=_LOG_TAIL_LINES)
        self._reader: threading.Thread | None = None
        self._is_stuck = False

    @property
    def is_stuck(self) -> bool:
        """Whether a child has outlived SIGKILL, by the last `start` or `stop`."""
        return self._is_stuck

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def start(self) -> None:
        """Raises ComfyUnavailable when the command can't run, its port is taken, or the child
        before does not end."""
        assert threading.current_thread() is threading.main_thread()
        self.stop()
        self._check_port_is_free()
        python = self._argv[0]
        command = [python, "-I", str(self._launcher), str(os.getpid()), *self._argv]
        try:
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, env=self._env, start_new_session=True,
            )  # fmt: skip
        except OSError as exc:
            raise ComfyUnavailable(f"can't start ComfyUI with {python}: {exc.strerror}") from exc
        self._hold_memory(self._child)
        self._tail = deque(maxlen=_LOG_TAIL_LINES)
        self._reader = threading.Thread(
            target=self._copy_lines, args=(self._child, self._tail), name="comfyui-log", daemon=True
        )
        self._reader.start()

    def exit(self) -> ComfyExit | None:
        """How the child ended, or None while it runs. A child never started has exit code 0."""
        if self._child is None:
            return self._ended
        exit_code = self._child.poll()
        if exit_code is None:
            return None
        if self._reader is not None:
            # Its last words may still be in the pipe; a grandchild may keep the pipe open.
            self._reader.join(timeout=0.5)
        return ComfyExit(exit_code, tuple(self._tail), memory_bytes=self._memory_bytes)

    def stop(self, grace_s: float = _STOP_GRACE_S) -> None:
        """End the child and all it started, within seconds. Harmless when there is none.

        `grace_s` is between SIGTERM and SIGKILL; with 0 there is no SIGTERM. Raises
        ComfyUnavailable, which asks for another worker, when the child does not end; it is waited
        for once.
        """
        child = self._child
        if child is None:
            return
        was_running = child.poll() is None
        if was_running and grace_s > 0 and not self._is_stuck:
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(child.pid, signal.SIGTERM)
                child.wait(timeout=grace_s)
        self.kill()
        try:
            child.wait(timeout=0 if self._is_stuck else _KILL_S)
        except subprocess.TimeoutExpired:
            self._is_stuck = True
            error = ComfyUnavailable(
                "a ComfyUI process does not end, not even by SIGKILL; the GPU's driver may hang"
            )
            error.refresh_worker = True
            raise error from None
        self._is_stuck = False
        if self._reader is not None:
            self._reader.join(timeout=1)
        self._ended = ComfyExit(
            child.returncode, tuple(self._tail), was_running, self._memory_bytes
        )
        self._child = None

    def kill(self) -> None:
        """SIGKILL to the child and all it started. Waits for nothing; `stop` has still to come."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)

    def _hold_memory(self, child: subprocess.Popen[bytes]) -> None:
        self._memory_bytes = None

        def end(used_bytes: int) -> None:
            if child is self._child:
                self._memory_bytes = used_bytes
                self.kill()

        if self._memory_limit_bytes is not None:
            watch_memory(child.pid, self._memory_limit_bytes, end)

    def _check_port_is_free(self) -> None:
        """Else the answers of somebody else's server would be taken for our child's."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self._port))
            except OSError as exc:
                raise ComfyUnavailable(
                    f"port {self._port} on 127.0.0.1 can't be used ({exc.strerror}); "
                    "is another ComfyUI running? set COMFY_PORT to a free port"
                ) from exc

    def _copy_lines(self, child: subprocess.Popen[bytes], tail: deque[str]) -> None:
        assert child.stdout is not None
        with child.stdout as pipe:
            while raw := pipe.readline(_LONGEST_LINE):
                # Of a progress bar, which draws over itself, only the last state.
                line = raw.decode("utf-8", "replace").rstrip().rpartition("\r")[2]
                if line:
                    tail.append(line)
                    self._on_line(line)
