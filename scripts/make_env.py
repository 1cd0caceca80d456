"""Makes a Python environment exactly as a lock says: `make_env.py DIR LOCK [--needs-gb N]`.

Runs on the system's Python, with nothing installed. Safe to run again: an environment that is
already as the lock says is left alone, one that is not is made anew.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

_LEAST_PYTHON = (3, 11)


def main() -> int:
    """The exit code: 0, or 1 after one sentence on stderr."""
    arguments = _parse_arguments()
    try:
        _make_env(arguments.dir, arguments.lock, arguments.needs_gb)
    except (RuntimeError, OSError) as exc:
        print(f"make_env: {exc}", file=sys.stderr)
        return 1
    return 0


def _make_env(env_dir: Path, lock: Path, needs_gb: float) -> None:
    stamp, wanted = env_dir / "installed.sha256", _digest(lock)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    if sys.version_info < _LEAST_PYTHON:
        raise RuntimeError(
            f"Python {'.'.join(map(str, _LEAST_PYTHON))} or later is needed, and this is "
            f"{sys.version.split()[0]}; run make with PYTHON=/path/to/python3.11"
        )
    free_gb = shutil.disk_usage(lock.resolve().parent).free / 1e9
    if free_gb < needs_gb:
        raise RuntimeError(f"{env_dir} needs {needs_gb:g} GB and {free_gb:.1f} GB are free")
    print(f"Making {env_dir} from {lock} (about {needs_gb:g} GB) ...", flush=True)
    try:
        venv.create(env_dir, clear=True, symlinks=True, with_pip=True)
    except (subprocess.CalledProcessError, ImportError) as exc:
        raise RuntimeError(
            f"this Python can't make environments ({exc}); on Debian and Ubuntu: "
            "apt-get install python3-venv"
        ) from exc
    command = [
        str(env_dir / "bin" / "python"), "-m", "pip", "install",
        "--disable-pip-version-check", "--require-hashes", "--no-deps", "-r", str(lock),
    ]  # fmt: skip
    if subprocess.run(command).returncode != 0:
        raise RuntimeError(f"pip could not install {lock}; its message is above. Run make again")
    stamp.write_text(wanted)


def _digest(lock: Path) -> str:
    # The interpreter belongs to it: an environment does not survive a change of Python.
    return hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dir", type=Path)
    parser.add_argument("lock", type=Path)
    parser.add_argument("--needs-gb", type=float, default=1.0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
