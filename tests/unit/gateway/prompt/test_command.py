import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.prompt import compile_prompt
from gateway.prompt.command import main

REQUEST = {"edits": [{"category": "outfit_colour", "fields": {"colour": "red"}}], "text": "ไทย"}


def test_a_file_is_compiled_as_the_page_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "request.json"
    path.write_text(json.dumps(REQUEST), encoding="utf-8-sig")
    assert main([str(path)]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed) == compile_prompt(REQUEST)
    assert "ไทย" in printed


def test_stdin_is_read_and_the_prompt_printed_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(REQUEST).encode())))
    assert main(["--text"]) == 0
    printed = capsys.readouterr()
    answer = compile_prompt(REQUEST)
    assert printed.out == answer["prompt"] + "\n"
    assert printed.err.count("\n") == len(answer["warnings"])
    assert "thai_text: " in printed.err


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 200_000, "nested too deep"),
        (b'"' + b"a" * 1_000_001, "more than 1000000 bytes"),
        (b'{"edits": [{"category": "hairs"}]}', "nearest: hair"),
    ],
)
def test_what_can_not_be_read_is_one_line_and_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], raw: bytes, said: str
) -> None:
    path = tmp_path / "request.json"
    path.write_bytes(raw)
    assert main([str(path)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("invalid_options: ")
    assert said in printed.err
    assert printed.err.count("\n") == 1


def test_a_file_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["/nowhere/request.json"]) == 1
    assert "/nowhere/request.json" in capsys.readouterr().err


def test_the_list_names_every_option_in_both_languages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    printed = capsys.readouterr().out
    assert "outfit_colour: Outfit colour / เปลี่ยนสีชุด\n" in printed
    assert "  colour (one of, required): Colour / สี\n" in printed
    assert "    navy_blue: Navy blue / กรมท่า\n" in printed
    assert "  caption (a text): " in printed


def test_it_runs_as_a_module_with_nothing_but_the_standard_library() -> None:
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c",
         "import sys; sys.path.insert(0, '.');"
         "from gateway.prompt.command import main; sys.exit(main(['-']))"],
        input=json.dumps(REQUEST).encode(), capture_output=True, timeout=60, check=False,
        cwd=Path(__file__).resolve().parents[4],
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == compile_prompt(REQUEST)
