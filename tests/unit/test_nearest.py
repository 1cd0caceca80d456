import tracemalloc
from pathlib import Path

from handler.nearest import nearest, shown
from handler.settings import PROJECT_DIR


def test_the_nearest_names_come_first() -> None:
    assert nearest("workflo", ["images", "workflow", "work"]) == ["workflow"]
    assert nearest("abcd", ["abce", "abcd", "x"], most=2) == ["abcd", "abce"]
    assert nearest("zzz", ["workflow"]) == []


def test_a_name_of_megabytes_costs_nothing_worth_mentioning() -> None:
    long = "LoadImage" * 1_500_000
    tracemalloc.start()
    try:
        nearest(long, ["LoadImage", long], most=3, cutoff=0.5)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_long_name_is_quoted_by_its_beginning() -> None:
    assert shown("a'b") == '"a\'b"'
    assert shown("x" * 1000) == f"{'x' * 300!r}... (1000 characters)"


def test_nobody_else_compares_names() -> None:
    users = [
        path.relative_to(PROJECT_DIR)
        for path in sorted((PROJECT_DIR / "handler").rglob("*.py"))
        if "difflib" in path.read_text()
    ]
    assert users == [Path("handler/nearest.py")]
