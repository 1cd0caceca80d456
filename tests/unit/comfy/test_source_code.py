from pathlib import Path

from handler.comfy.source_code import SourceCode

CODE = (("a.py", ("f", "C", "SIZES", "g")),)
SOURCE = """\
SIZES = [
    1,
]


def f():
    return 1


class C:
    def f(self):
        return 2


async def g():
    return 3


def other():
    return 4
"""


def digest(folder: Path, source: str) -> str | None:
    (folder / "a.py").write_text(source)
    return SourceCode(folder).digest(CODE)


def test_it_changes_with_what_is_named_and_with_nothing_else(tmp_path: Path) -> None:
    before = digest(tmp_path, SOURCE)
    assert before is not None
    assert digest(tmp_path, "import x\n\n" + SOURCE.replace("return 4", "return 5")) == before
    for line in ("    1,", "return 1", "return 2", "return 3"):
        assert digest(tmp_path, SOURCE.replace(line, line + "  # changed")) not in {before, None}


def test_there_is_none_of_what_is_missing_or_no_python(tmp_path: Path) -> None:
    assert SourceCode(tmp_path).digest(CODE) is None
    assert digest(tmp_path, SOURCE.replace("class C", "class D")) is None
    assert digest(tmp_path, "def f(:\n") is None
