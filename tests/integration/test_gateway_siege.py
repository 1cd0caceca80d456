"""A gateway amid faults that a seed draws, on each database; `make soak` does it for hours."""

from pathlib import Path

import pytest

from tests.siege.siege import Siege

JOBS = 24


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("engine", "seed"), [("sqlite", 3), ("postgresql", 3)])
def test_every_job_ends_once_with_one_picture_and_nothing_is_left_behind(
    engine: str, seed: int, tmp_path: Path
) -> None:
    told = Siege(engine, seed, JOBS, tmp_path).run()
    print(told)
    assert sum(told["ended"].values()) == told["jobs"] > JOBS
    assert told["ended"]["succeeded"] > told["jobs"] / 2
    assert sum(told["faults"].values()) > 2
