"""What a siege has left in the database and in the store of pictures."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import select

from gateway.job import RAW
from gateway.objects import DiskObjects, ObjectStore, S3Objects
from gateway.steps.sweep import Sweeper
from gateway.store.database import Database
from gateway.store.jobs import JobStore
from gateway.store.tables import job_events
from tests.clouds import ShiftedClock
from tests.siege.callers import Asked
from tests.siege.store import KEY_ID, NAME, SECRET, BreakingBucket

_HOURS_MS, _DAY_MS = 2 * 3_600_000, 86_400_000


class Books:
    """Of the database at `url`; the pictures are in `bucket`, or else below `data_dir`."""

    def __init__(self, url: str, data_dir: Path, bucket: BreakingBucket | None) -> None:
        self._url, self._data_dir, self._bucket = url, data_dir, bucket

    @contextlib.contextmanager
    def database(self) -> Iterator[Database]:
        found = Database(self._url)
        try:
            yield found
        finally:
            found.close()

    def history(self) -> dict[str, list[str]]:
        """Each job's states, in order."""
        statement = select(job_events.c.job_id, job_events.c.state).order_by(job_events.c.seq)
        found: dict[str, list[str]] = {}
        with self.database() as database:
            for job_id, state in database.read(lambda c: c.execute(statement).all()):
                found.setdefault(job_id, []).append(state)
        return found

    def sweep_later(self) -> None:
        """Two hours later, when what crashes have left behind is old enough to be removed."""
        clock = ShiftedClock()
        clock.ahead = _HOURS_MS
        with self.database() as database:
            Sweeper(JobStore(database), self._objects(), clock, "results/", _DAY_MS).orphans()

    def wrong_objects(self, asked: list[Asked], results: set[str]) -> list[str]:
        """Beside the `results`: inputs of jobs that are known, and one answer a raw job."""
        known = set(self.history())
        raw = {one.job_id for one in asked if one.kind == RAW}
        keys = self._keys()
        counts = Counter(tuple(key.split("/")[:2]) for key in keys)

        def is_right(key: str) -> bool:
            folder, job_id = key.split("/")[:2]
            if folder == "inputs":
                return job_id in known
            if folder == "outputs":
                return job_id in raw and counts[folder, job_id] == 1
            return key in results

        wrong = [key for key in keys if not is_right(key)]
        return [*wrong, *(f"missing: {key}" for key in results - set(keys))]

    def _keys(self) -> list[str]:
        if self._bucket is not None:
            return self._bucket.keys()
        root = self._data_dir / "objects"
        return [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]

    def _objects(self) -> ObjectStore:
        if self._bucket is None:
            return DiskObjects(self._data_dir)
        return S3Objects(self._bucket.url, NAME, KEY_ID, SECRET, self._data_dir / "tmp")
