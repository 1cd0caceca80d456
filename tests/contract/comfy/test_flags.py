"""The flags of `python -m handler` against those that RunPod's SDK reads."""

import re
import subprocess
import sys

from handler.settings import PROJECT_DIR


def flags_of(program: str) -> set[str]:
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60,
        cwd=PROJECT_DIR,
    )  # fmt: skip
    return set(re.findall(r"--\w+", run.stdout)) - {"--help"}


def test_every_flag_of_the_sdk_is_accepted_and_no_other() -> None:
    show = "print([a.option_strings for a in parser._actions])"
    sdk = flags_of(f"from runpod.serverless import parser; {show}")
    ours = flags_of(f"from handler.arguments import make_parser; parser = make_parser(); {show}")
    assert ours == sdk
