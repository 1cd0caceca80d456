"""What the README states, held to the code."""

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.setups import loads_of, row_of
from benchmarks.simulate import make_parser
from handler.errors import WorkerError
from handler.job.parse import parse_job
from handler.models.lock import read_models_lock
from handler.pictures.images import ImageLimits
from handler.settings import PROJECT_DIR, Settings
from handler.workflow.prompt_edit import ModelNames

README = (PROJECT_DIR / "README.md").read_text()
LIMITS = ImageLimits(count=16, data_bytes=20_000_000, pixels=64_000_000)
MODELS = ModelNames.of(read_models_lock(PROJECT_DIR / "models.lock").models)


def table_under(heading: str) -> list[str]:
    """The rows of the first table after a heading, without its head."""
    rows = [line for line in README.partition(heading)[2].splitlines()]
    start = next(index for index, line in enumerate(rows) if line.startswith("|---"))
    table = []
    for line in rows[start + 1 :]:
        if not line.startswith("|"):
            break
        table.append(line)
    return table


def error_classes(base: type[WorkerError] = WorkerError) -> list[type[WorkerError]]:
    """Those with a code, in the order of the tree."""
    found = []
    for kind in base.__subclasses__():
        found += ([kind] if "code" in vars(kind) else []) + error_classes(kind)
    return found


def test_the_error_table_is_the_codes_of_the_code() -> None:
    expected = [
        f"| `{kind.code}` | {kind.summary} | {'yes' if kind.retryable else 'no'} |"
        for kind in error_classes()
    ]
    assert table_under("### Errors") == expected


def test_codes_are_unique_and_every_error_has_one() -> None:
    codes = [kind.code for kind in error_classes()]
    assert len(codes) == len(set(codes))
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)
    leaves = [kind for kind in _all_classes() if not kind.__subclasses__()]
    assert leaves == error_classes()


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    import handler.errors

    drawn = re.findall(r"[├└]─ (\w+)(?: +(\w+))?", handler.errors.__doc__ or "")
    names = {name: code for name, code in drawn}
    assert set(names) == {kind.__name__ for kind in _all_classes()}
    for kind in error_classes():
        assert names[kind.__name__] == kind.code


def test_the_settings_table_is_the_settings() -> None:
    def shown(default: Any) -> str:
        text = "" if default is None else str(default).replace(f"{PROJECT_DIR}/", "")
        return f"`{text}`" if text else ""

    expected = [
        f"| `{name.upper()}` | {field.description} | {shown(field.default)} |"
        for name, field in Settings.model_fields.items()
    ]
    assert table_under("## Settings") == expected


def test_the_simulated_figures_are_what_make_simulate_prints() -> None:
    options = make_parser().parse_args(["--price-per-hour", "1"])
    loads = loads_of(options)
    for row in table_under("## Choosing an endpoint's settings"):
        in_hand, weights, active, idle, *shown = (
            cell.strip() for cell in row.strip("|").split("|")
        )
        timeout_s = int(idle.removesuffix(" s"))
        for load, cell in zip(loads, shown, strict=True):
            got = row_of(options, load, weights, int(active), timeout_s, int(in_hand))
            assert cell == f"{got.p95_s:.0f} s, {got.cost:.1f} h", row


def test_the_example_job_is_a_job() -> None:
    example = json.loads(re.findall(r"```json\n(.*?)```", README, re.DOTALL)[0])
    job = parse_job({"id": "1", **example}, LIMITS, MODELS)
    assert job.request_id == "order-17"


def test_the_models_table_is_the_lock() -> None:
    rows = table_under("## Models")
    models = read_models_lock(PROJECT_DIR / "models.lock").models
    assert len(rows) == len(models)
    for model in models:
        row = next(row for row in rows if model.file in row)
        assert f"`{model.folder}/`" in row
        assert f"| {model.bytes / 1e9:.1f} |" in row


def test_the_make_targets_exist() -> None:
    makefile = (PROJECT_DIR / "Makefile").read_text()
    for target in set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert "make test" in (PROJECT_DIR / ".ci" / "run").read_text()
    assert Path(PROJECT_DIR / ".ci" / "run").stat().st_mode & 0o100


def _all_classes(base: type[WorkerError] = WorkerError) -> list[type[WorkerError]]:
    found = []
    for kind in base.__subclasses__():
        found += [kind, *_all_classes(kind)]
    return found


def test_the_measured_figures_are_those_of_the_kept_results() -> None:
    rows = table_under("## Speed")
    assert rows
    for row in rows:
        _, measured, _, name = (cell.strip() for cell in row.strip("|").split("|"))
        kept = json.loads((PROJECT_DIR / "benchmarks" / "results" / f"{name}.json").read_text())
        assert measured in {
            f"{figure['value']:.3g} {figure['unit']}".strip() for figure in kept["figures"]
        }, row
