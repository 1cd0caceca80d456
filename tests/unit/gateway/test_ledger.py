"""Which lines a job's change means, and what an account is after them."""

from typing import Any

import pytest

from gateway import job as model
from gateway.errors import InvalidRequest, NotEnoughCredits
from gateway.job import RAW, JobState
from gateway.ledger import (
    MOST,
    PACKAGES,
    PRICES,
    START,
    Account,
    Line,
    LineKind,
    line_of_change,
    line_of_new,
    opening,
    price_of,
    purchase,
)
from gateway.lifecycle import advance
from tests.jobs import NOW, make_job
from tests.unit.gateway.test_lifecycle import EVENTS


@pytest.mark.parametrize(
    ("values", "speed"),
    [
        ({"input": {"prompt": "x"}}, "fast"),
        ({"input": {"prompt": "x", "speed": "fast", "steps": 4, "cfg": 1.0}}, "fast"),
        ({"input": {"prompt": "x", "speed": "fine"}}, "fine"),
        ({"input": {"prompt": "x", "speed": "fine", "steps": 1}}, "fine"),
        ({"input": {"prompt": "x", "speed": "fast", "steps": 5}}, "fine"),
        ({"input": {"prompt": "x", "cfg": 2.5}}, "fine"),
        ({"input": {"prompt": "x", "lora_strength": 0.0}}, "fine"),
        ({"input": {"workflow": {}}}, "fine"),
        ({"input": None, "kind": RAW}, "fine"),
    ],
)
def test_what_may_run_longer_than_a_fast_edit_costs_as_a_fine_one(
    values: dict[str, Any], speed: str
) -> None:
    assert price_of(make_job(**values)) == PRICES[speed]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
@pytest.mark.parametrize("state", JobState)
def test_only_an_end_has_a_line_and_success_alone_costs(state: JobState, event: Any) -> None:
    job = make_job(state=state, input={"speed": "fine"})
    change = advance(job, event, NOW)
    if change is None:
        return
    line = line_of_change(change, 5)
    if not change.is_final:
        assert line is None
    elif change.new_state is JobState.SUCCEEDED:
        assert line == Line(LineKind.SETTLE, 0, -5, job.id)
    else:
        assert line == Line(LineKind.RELEASE, 5, -5, job.id)


def test_a_job_that_held_nothing_has_no_line() -> None:
    change = advance(make_job(), model.CancelAsked(), NOW)
    assert change is not None
    assert line_of_change(change, 0) is None


def test_an_account_counts_what_is_free_and_what_is_held() -> None:
    account = Account().after(line_of_new(make_job(input={"speed": "fine"})))
    assert account == Account(1, START - PRICES["fine"], PRICES["fine"])
    assert account.after(purchase("small", None)).balance == account.balance + PACKAGES["small"]
    assert opening().amount == START


def test_a_balance_is_never_negative() -> None:
    line = line_of_new(make_job(input={"speed": "fine"}))
    assert Account(7, PRICES["fine"]).after(line).balance == 0
    with pytest.raises(NotEnoughCredits, match="costs 5 credits and there are 4"):
        Account(7, PRICES["fine"] - 1).after(line)


def test_what_is_not_sold_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match="small, medium, large"):
        purchase("huge", None)
    with pytest.raises(InvalidRequest, match="over 1000000"):
        Account(1, MOST - 1).after(purchase("small", None))


def test_credits_come_back_also_above_what_is_sold() -> None:
    line = Line(LineKind.RELEASE, 5, -5, "a")
    assert Account(1, MOST, 5).after(line).balance == MOST + 5
