"""The books of credits, on each engine: whatever happens, whenever it breaks off, they add up."""

import random
import subprocess
import sys
import uuid
from collections import Counter
from functools import partial
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, TextClause, select, text
from sqlalchemy.exc import IntegrityError

from gateway import job as model
from gateway.errors import NotEnoughCredits, RequestIdTaken
from gateway.job import FINAL, RUNPOD, Job, JobState
from gateway.ledger import PACKAGES, PRICES, START, Account
from gateway.store.books import Books
from gateway.store.database import Database
from gateway.store.jobs import JobStore
from gateway.store.tables import jobs, ledger
from handler.settings import PROJECT_DIR
from tests.databases import Templates
from tests.jobs import NOW, make_job
from tests.unit.gateway.store.test_jobs import in_threads
from tests.unit.gateway.test_lifecycle import EVENTS

FAST, FINE = {"speed": "fast"}, {"speed": "fine"}
STORED = model.Stored("results/a.png", [], 8, 8, "0" * 64)
ARRIVED = model.ResultArrived("outputs/a/1.json")


@pytest.fixture
def books(database: Database) -> Books:
    return Books(database)


@pytest.fixture
def store(database: Database, books: Books) -> JobStore:
    return JobStore(database, attempts=2, books=books)


def lines_of(database: Database, owner: str = "ann") -> list[Any]:
    statement = select(ledger).where(ledger.c.owner == owner).order_by(ledger.c.seq)
    return list(database.read(lambda connection: connection.execute(statement).all()))


def kinds_of(database: Database, owner: str = "ann") -> list[str]:
    return [line.kind for line in lines_of(database, owner)]


def check_books(database: Database, owner: str = "ann") -> None:
    """Every line follows from the one before it, and each job has the lines of its state."""
    balance = held = 0
    for number, line in enumerate(lines_of(database, owner), 1):
        balance += line.amount
        if line.kind == "hold":
            held -= line.amount
        elif line.kind in {"settle", "release"}:
            held -= cost_of(database, line.job_id)
        assert (line.seq, line.balance, line.held) == (number, balance, held)
        assert min(balance, held) >= 0
    statement = select(jobs.c.id, jobs.c.state).where(jobs.c.owner == owner)
    of_jobs = database.read(lambda connection: connection.execute(statement).all())
    kinds: dict[str, list[str]] = {}
    for line in lines_of(database, owner):
        if line.job_id is not None:
            kinds.setdefault(line.job_id, []).append(line.kind)
    assert kinds == {job_id: lines_for(JobState(state)) for job_id, state in of_jobs}


def cost_of(database: Database, job_id: str) -> int:
    cost = Books(database).cost(job_id)
    assert cost is not None
    return cost


def lines_for(state: JobState) -> list[str]:
    match state:
        case JobState.SUCCEEDED:
            return ["hold", "settle"]
        case JobState.FAILED | JobState.CANCELLED:
            return ["hold", "release"]
        case _:
            return ["hold"]


def spend_all_but(database: Database, left: int) -> None:
    """So that the rest of a test is about the last credits."""
    store = JobStore(database, books=Books(database))
    for _ in range(START - left):
        job, _ = store.create(make_job(input=FAST))
        store.record(job.id, model.Taken("gpu", NOW + 1), NOW)
        store.record(job.id, ARRIVED, NOW)
        assert store.record(job.id, STORED, NOW) is not None


def test_success_costs_what_was_held_at_the_beginning(
    store: JobStore, books: Books, database: Database
) -> None:
    job, _ = store.create(make_job(input=FINE))
    assert books.account("ann") == Account(2, START - 5, 5)
    store.take("gpu", 1, NOW, NOW + 1)
    store.record(job.id, ARRIVED, NOW)
    assert books.account("ann").held == 5
    store.record(job.id, STORED, NOW)
    assert books.account("ann") == Account(3, START - 5, 0)
    assert books.cost(job.id) == 5
    assert kinds_of(database) == ["start", "hold", "settle"]


@pytest.mark.parametrize(
    "event",
    [
        model.CancelAsked(),
        model.DeadlinePassed(),
        model.Stopped(),
    ],
    ids=lambda event: type(event).__name__,
)
def test_what_ends_otherwise_costs_nothing(
    store: JobStore, books: Books, database: Database, event: Any
) -> None:
    job, _ = store.create(make_job(input=FINE))
    assert store.record(job.id, event, NOW) is not None
    assert books.account("ann") == Account(3, START, 0)
    check_books(database)


def test_a_job_that_is_tried_again_is_held_once(
    store: JobStore, books: Books, database: Database
) -> None:
    job, _ = store.create(make_job(input=FAST))
    fault = model.Fault("comfy_exited", "it ended", True)
    for _ in range(2):
        assert kinds_of(database) == ["start", "hold"]
        store.record(job.id, model.Taken("gpu", NOW + 1), NOW)
        store.record(job.id, model.TryFailed(fault), NOW)
    assert kinds_of(database) == ["start", "hold", "release"]
    assert books.account("ann").balance == START


def test_many_that_expire_at_once_are_all_released(store: JobStore, database: Database) -> None:
    for owner in ("cat", "ann", "bob", "ann"):
        store.create(make_job(owner=owner, input=FAST, deadline_at=NOW))
    assert len(store.expire(model.DeadlinePassed(), NOW, 100)) == 4
    for owner in ("ann", "bob", "cat"):
        check_books(database, owner)
        assert Books(database).account(owner).balance == START


def test_a_refused_create_costs_nothing_and_leaves_nothing(
    store: JobStore, books: Books, database: Database
) -> None:
    spend_all_but(database, 4)
    refused = make_job(input=FINE, request_id="order-1")
    with pytest.raises(NotEnoughCredits):
        store.create(refused)
    assert store.get(refused.id) is None
    assert books.account("ann").balance == 4
    books.buy("ann", "small", None, NOW)
    assert store.create(refused)[1]
    check_books(database)


def test_the_same_request_again_is_held_once(store: JobStore, books: Books) -> None:
    first, _ = store.create(make_job(input=FAST, request_id="order-1"))
    again, is_new = store.create(make_job(input=FAST, request_id="order-1"))
    assert (again.id, is_new) == (first.id, False)
    with pytest.raises(RequestIdTaken):
        store.create(make_job(input=FAST, request_id="order-1", body_hash="1" * 64))
    assert books.account("ann") == Account(2, START - 1, 1)


def test_of_many_creates_at_once_as_many_are_taken_as_are_paid(
    store: JobStore, books: Books, database: Database
) -> None:
    spend_all_but(database, 12)

    def create(_: int) -> bool:
        try:
            return store.create(make_job(input=FINE))[1]
        except NotEnoughCredits:
            return False

    assert Counter(in_threads(8, create)) == {True: 2, False: 6}
    assert books.account("ann").balance == 2
    check_books(database)


def test_the_first_lines_of_an_account_may_come_all_at_once(
    store: JobStore, books: Books, database: Database
) -> None:
    in_threads(8, lambda _: store.create(make_job(input=FAST)))
    assert books.account("ann") == Account(9, START - 8, 8)
    check_books(database)


def test_an_end_that_several_bring_at_once_counts_once(store: JobStore, database: Database) -> None:
    job, _ = store.create(make_job(input=FAST))
    events: list[model.Event] = [model.CancelAsked(), model.DeadlinePassed(), model.Stopped()] * 2
    ended = in_threads(6, lambda index: store.record(job.id, events[index], NOW))
    assert sum(one is not None for one in ended) == 1
    assert kinds_of(database) == ["start", "hold", "release"]


def test_ends_of_jobs_of_several_owners_do_not_wait_for_each_other_in_a_circle(
    store: JobStore, database: Database
) -> None:
    for index in range(80):
        store.create(make_job(owner="abcd"[index % 4], input=FAST, deadline_at=NOW))

    def expire(_: int) -> int:
        count = 0
        while ended := store.expire(model.DeadlinePassed(), NOW, 7):
            count += len(ended)
        return count

    ended = sum(in_threads(4, expire))
    # What another had locked in passing is there for the next look.
    assert ended + len(store.expire(model.DeadlinePassed(), NOW, 100)) == 80
    for owner in "abcd":
        check_books(database, owner)


def test_a_purchase_counts_once_for_its_request_id(books: Books, database: Database) -> None:
    bought = in_threads(6, lambda _: books.buy("ann", "medium", "order-1", NOW))
    assert sum(is_new for _, is_new in bought) == 1
    assert {account.balance for account, _ in bought} == {START + PACKAGES["medium"]}
    with pytest.raises(RequestIdTaken, match="medium"):
        books.buy("ann", "small", "order-1", NOW)
    assert books.buy("bob", "small", "order-1", NOW)[1]
    assert books.buy("ann", "small", None, NOW)[1]
    assert books.buy("ann", "small", None, NOW)[1]
    assert kinds_of(database) == ["start", "buy", "buy", "buy"]


def test_looking_at_an_account_writes_nothing(books: Books, database: Database) -> None:
    assert books.account("ann") == Account(0, START, 0)
    assert lines_of(database) == []


def test_jobs_of_a_time_without_credits_cost_nothing_later(database: Database) -> None:
    free, paid = JobStore(database), JobStore(database, books=Books(database))
    before, _ = free.create(make_job(input=FAST))
    assert Books(database).cost(before.id) is None
    paid.record(before.id, model.CancelAsked(), NOW)
    assert lines_of(database) == []
    held, _ = paid.create(make_job(input=FAST))
    free.record(held.id, model.CancelAsked(), NOW)
    assert kinds_of(database) == ["start", "hold", "release"]


def test_the_database_itself_refuses_a_second_end_and_a_negative_balance(
    store: JobStore, database: Database
) -> None:
    job, _ = store.create(make_job(input=FAST))
    store.record(job.id, model.CancelAsked(), NOW)
    insert = (
        "INSERT INTO ledger (owner, seq, at, kind, amount, balance, held, job_id) "
        "VALUES ('ann', 9, 0, :kind, 0, :balance, 0, :job)"
    )
    for kind, balance, of in (("settle", 1, job.id), ("hold", 1, job.id), ("hold", -1, "new")):
        values = {"kind": kind, "balance": balance, "job": of}
        with pytest.raises(IntegrityError):
            database.write(partial(_execute, text(insert), values))


def _execute(statement: TextClause, values: dict[str, Any], connection: Connection) -> None:
    connection.execute(statement, values)


class Machine(RuleBasedStateMachine):
    """Any order of creates, purchases and events; the sums are kept a second time, by hand."""

    database: Database

    def __init__(self) -> None:
        super().__init__()
        self.owner = uuid.uuid4().hex
        self.books = Books(self.database)
        self.store = JobStore(self.database, attempts=2, books=self.books)
        self.prices: dict[str, int] = {}
        self.requests: dict[str, str] = {}
        self.bought: dict[str, str] = {}
        self.income = START

    def expected(self) -> tuple[int, int]:
        """What is free and what is held, by the jobs' states."""
        statement = select(jobs.c.id, jobs.c.state).where(jobs.c.owner == self.owner)
        rows = self.database.read(lambda connection: connection.execute(statement).all())
        states = {job_id: JobState(state) for job_id, state in rows}
        assert states.keys() == self.prices.keys()
        spent = sum(
            self.prices[job_id] for job_id, state in states.items() if state is JobState.SUCCEEDED
        )
        held = sum(self.prices[job_id] for job_id, state in states.items() if state not in FINAL)
        return self.income - spent - held, held

    def job(self, job_id: str) -> Job:
        found = self.store.get(job_id)
        assert found is not None
        return found

    @rule(speed=st.sampled_from(["fast", "fine"]), request=st.sampled_from([None, "r1", "r2"]))
    def create(self, speed: str, request: str | None) -> None:
        free, _ = self.expected()
        job = make_job(owner=self.owner, input={"speed": speed}, request_id=request)
        known = request in self.requests
        try:
            made, is_new = self.store.create(job)
        except NotEnoughCredits:
            assert not known
            assert free < PRICES[speed]
            return
        assert is_new == (not known)
        if is_new:
            assert free >= PRICES[speed]
            self.prices[made.id] = PRICES[speed]
        if request is not None:
            assert self.requests.setdefault(request, made.id) == made.id

    @rule(package=st.sampled_from(list(PACKAGES)), request=st.sampled_from(["b1", "b2"]))
    def buy(self, package: str, request: str) -> None:
        try:
            _, is_new = self.books.buy(self.owner, package, request, NOW)
        except RequestIdTaken:
            assert self.bought[request] != package
            return
        assert is_new == (request not in self.bought)
        if is_new:
            self.bought[request] = package
            self.income += PACKAGES[package]

    @precondition(lambda self: self.prices)
    @rule(data=st.data(), event=st.sampled_from([*EVENTS, ARRIVED, STORED]))
    def happens(self, data: Any, event: Any) -> None:
        job_id = data.draw(st.sampled_from(list(self.prices)))
        self.store.record(job_id, event, NOW)

    @precondition(lambda self: self.prices)
    @rule(data=st.data())
    def a_write_of_a_former_holder(self, data: Any) -> None:
        """Decided twice on the same row: the second finds another one."""
        job = self.job(data.draw(st.sampled_from(list(self.prices))))
        self.store.record(job.id, model.Rerouted(RUNPOD), NOW)
        self.store.settle(job, model.CancelAsked(), NOW)
        assert self.store.settle(job, model.DeadlinePassed(), NOW) is None or job.state in FINAL

    @precondition(lambda self: len(self.prices) < 40)
    @rule()
    def spend(self) -> None:
        """Down to where creates are refused."""
        while self.expected()[0] >= PRICES["fine"]:
            job, _ = self.store.create(make_job(owner=self.owner, input=FINE))
            self.prices[job.id] = PRICES["fine"]

    @invariant()
    def sums_add_up(self) -> None:
        account = self.books.account(self.owner)
        assert (account.balance, account.held) == self.expected()
        assert min(account.balance, account.held) >= 0

    def teardown(self) -> None:
        if self.prices or self.bought:
            check_books(self.database, self.owner)


def test_in_any_order_of_events_the_sums_add_up(database: Database) -> None:
    machine = type("Machine", (Machine,), {"database": database})
    run_state_machine_as_test(
        machine,
        # Of another run's owners nothing can be replayed; and a busy machine is no fault.
        settings=settings(
            max_examples=10,
            stateful_step_count=25,
            deadline=None,
            database=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


_CHILD = """
import sys
from itertools import cycle
from gateway import job as model
from gateway.store.books import Books
from gateway.store.database import Database
from gateway.store.jobs import JobStore
from concurrent.futures import ThreadPoolExecutor
from tests.jobs import NOW, make_job

database = Database(sys.argv[1])
books = Books(database)
store = JobStore(database, books=books)

def go_on(number):
    while True:
        job, _ = store.create(make_job(input={"speed": "fast"}))
        print("made", job.id, flush=True)
        store.record(job.id, model.Taken("gpu", NOW + 1), NOW)
        if number % 2:
            store.record(job.id, model.ResultArrived("a"), NOW)
            store.record(job.id, model.Stored("r", [], 8, 8, "0" * 64), NOW)
        else:
            store.record(job.id, model.Stopped(), NOW)
        print("ended", job.id, flush=True)

books.buy("ann", "large", None, NOW)
with ThreadPoolExecutor(3) as pool:
    list(pool.map(go_on, range(3)))
"""


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_process_that_is_killed_leaves_every_job_with_its_lines(
    engine: str, database_templates: Templates
) -> None:
    url = database_templates.url(engine)
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, url], cwd=PROJECT_DIR, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        seen = [child.stdout.readline().split() for _ in range(random.randint(20, 60))]
        child.kill()
        seen += [line.split() for line in child.stdout.read().splitlines()]
    database = Database(url)
    try:
        if not database.is_sqlite:
            # What the server still does for the dead ends before it is looked at.
            database.write(lambda c: c.execute(text("LOCK TABLE jobs, ledger")))
        check_books(database)
        for what, job_id in [line for line in seen if len(line) == 2 and len(line[1]) == 36]:
            job = JobStore(database).get(job_id)
            assert job is not None
            assert job.state.is_final or what == "made"
    finally:
        database.close()
