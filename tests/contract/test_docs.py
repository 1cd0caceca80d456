"""What the documents state, held to the code."""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import gateway.settings
from gateway.errors import GatewayError
from handler.contract import schema_of
from handler.errors import WorkerError
from handler.job import parse_job
from handler.models import read_models_lock
from handler.pictures import ImageLimits
from handler.settings import PROJECT_DIR, Settings
from handler.workflow import ModelNames
from scripts.write_docs import PARTS, RESULTS, Error, documents, error_classes, measured, rewrite
from tests.schemas import OUTPUT

LIMITS = ImageLimits(count=16, data_bytes=20_000_000, pixels=64_000_000)
MODELS = ModelNames.of(read_models_lock(PROJECT_DIR / "models.lock").models)
TEXTS = {str(path.relative_to(PROJECT_DIR)): path.read_text() for path in documents()}
EVERY_TEXT = "\n".join(TEXTS.values())
FOLDERS = "gateway|handler|scripts|tests|comfy|benchmarks|examples|schema|docs"
of_each_program = pytest.mark.parametrize("base", [WorkerError, GatewayError])
of_each_document = pytest.mark.parametrize("name", TEXTS)


def in_code(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))


def all_classes(base: type[Error]) -> list[type[Error]]:
    return [kind for sub in base.__subclasses__() for kind in [sub, *all_classes(sub)]]


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@of_each_document
def test_the_parts_that_come_from_the_code_are_what_make_docs_writes(name: str) -> None:
    assert rewrite(TEXTS[name]) == TEXTS[name]


def test_every_part_stands_in_a_document() -> None:
    for part in PARTS:
        assert EVERY_TEXT.count(f"<!-- {part}: make docs -->") == 1, part


def test_a_part_that_nobody_writes_and_marks_that_do_not_pair_are_refused() -> None:
    for text in (
        "<!-- unheard-of: make docs -->\n<!-- end of unheard-of -->",
        "<!-- models: make docs -->\n",
        "<!-- models: make docs -->\n<!-- end of simulated -->",
    ):
        with pytest.raises(ValueError, match=r"unheard-of|do not pair"):
            rewrite(text)


def test_every_code_of_each_program_is_in_the_tables_once() -> None:
    worker, _, of_gateway = TEXTS["docs/errors.md"].partition("## Of the gateway")
    for text, base in ((worker, WorkerError), (of_gateway, GatewayError)):
        rows = re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE)
        assert sorted(rows) == sorted(kind.code for kind in error_classes(base))


@of_each_program
def test_codes_are_unique_and_every_error_has_one(base: type[Error]) -> None:
    codes = [kind.code for kind in error_classes(base)]
    assert len(codes) == len(set(codes))
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)
    leaves = [kind for kind in all_classes(base) if not kind.__subclasses__()]
    assert leaves == list(error_classes(base))


@of_each_program
def test_the_tree_in_the_docstring_is_the_tree_of_the_classes(base: type[Error]) -> None:
    module = sys.modules[base.__module__]
    drawn = re.findall(r"[├└]─ (\w+)(?: +(\w+))?", module.__doc__ or "")
    names = {name: code for name, code in drawn}
    assert set(names) == {kind.__name__ for kind in all_classes(base)}
    for kind in error_classes(base):
        assert names[kind.__name__] == kind.code


def test_the_variables_that_a_document_names_exist() -> None:
    known = {
        name.upper()
        for settings in (Settings, gateway.settings.Settings)
        for name in settings.model_fields
    }
    named = set(re.findall(r"\b(?:WORKER|COMFY|BUCKET|GATEWAY)_[A-Z_]*[A-Z]\b", EVERY_TEXT))
    # COMFY_LOCK is an argument of the image's build.
    assert {name.removesuffix("_FILE") for name in named} - known <= {"COMFY_LOCK"}


def test_the_example_job_is_a_job_wherever_it_stands() -> None:
    jobs = [
        json.loads(block)
        for block in re.findall(r"```json\n(.*?)```", EVERY_TEXT, re.DOTALL)
        if '"input"' in block and "..." not in block
    ]
    assert jobs
    for job in jobs:
        assert parse_job({"id": "1", **job}, LIMITS, MODELS).request_id == "order-17"


def test_the_example_answers_are_of_the_published_form() -> None:
    blocks = re.findall(r"```json\n(.*?)```", TEXTS["docs/job.md"] + TEXTS["docs/errors.md"], re.S)
    answers: list[Any] = [json.loads(block) for block in blocks if '"input"' not in block]
    assert len(answers) == 3
    for answer in answers:
        OUTPUT.validate(answer.get("output", answer))


@pytest.mark.parametrize("of", ["input", "output"])
def test_every_key_of_the_contract_is_told(of: str) -> None:
    def keys(schema: Any) -> set[str]:
        if isinstance(schema, list):
            return {key for part in schema for key in keys(part)}
        if not isinstance(schema, dict):
            return set()
        return set(schema.get("properties", {})) | keys(list(schema.values()))

    told = TEXTS["docs/job.md"] + TEXTS["docs/errors.md"]
    assert keys(schema_of(of)) <= set(re.findall(r"\w+", told))


def test_the_make_targets_exist() -> None:
    makefile = (PROJECT_DIR / "Makefile").read_text()
    for target in set(re.findall(r"(?:^ *|`)make ([a-z-]+)", EVERY_TEXT, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@of_each_document
def test_links_lead_somewhere(name: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", TEXTS[name]):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (PROJECT_DIR / name).parent / path if path else PROJECT_DIR / name
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


@of_each_document
def test_the_files_that_a_document_names_exist(name: str) -> None:
    for code in in_code(TEXTS[name]):
        # What is made, and is there only after some command, is not looked for.
        if re.fullmatch(
            r"(handler|scripts|tests|comfy|benchmarks|examples|schema)/[\w./*-]+", code
        ):
            assert list(PROJECT_DIR.glob(code.rstrip("/"))), code


def test_the_measured_figures_are_those_of_the_kept_results() -> None:
    rows = re.findall(
        r"^\| ([^|]+) \| ([^|]+) \| ([^|]*) \| (\w+) \|$",
        "\n".join(
            table
            for table in re.findall(r"(?:^\|.*\n)+", EVERY_TEXT, re.MULTILINE)
            if "`make bench ARGS=`" in table.partition("\n")[0]
        ),
        re.MULTILINE,
    )
    assert rows
    for what, shown, _, name in rows:
        kept = json.loads((RESULTS / f"{name}.json").read_text())
        assert shown.strip() in {measured(figure) for figure in kept["figures"]}, what


def test_the_readme_is_short_enough_to_be_read() -> None:
    assert len(TEXTS["README.md"].splitlines()) <= 180


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert "make test" in TEXTS["README.md"]
    assert "make test" in (PROJECT_DIR / ".ci" / "run").read_text()
    assert os.access(Path(PROJECT_DIR / ".ci" / "run"), os.X_OK)
