import os
from pathlib import Path

import structlog

from handler.machine.page_cache import AheadFile, reading_ahead

PLENTY = 1 << 40


def cached_pieces(path: Path, piece: int = 1 << 20) -> int:
    """How many of the file's pieces begin with a byte that the page cache has."""
    found = 0
    descriptor = os.open(path, os.O_RDONLY)
    try:
        for offset in range(0, path.stat().st_size, piece):
            try:
                found += os.preadv(descriptor, [bytearray(1)], offset, os.RWF_NOWAIT)
            except BlockingIOError:
                continue
    finally:
        os.close(descriptor)
    return found


def cold_file(path: Path, size: int) -> Path:
    path.write_bytes(b"w" * size)
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    return path


def test_files_are_in_the_page_cache_afterwards(tmp_path: Path) -> None:
    one = cold_file(tmp_path / "one", 20 << 20)
    several = cold_file(tmp_path / "several", 20 << 20)
    files = [AheadFile(one, 1), AheadFile(several, 4)]
    with reading_ahead(files, lambda: PLENTY) as thread:
        thread.join(30)
    assert (cached_pieces(one), cached_pieces(several)) == (20, 20)


def test_what_is_cached_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "warm"
    path.write_bytes(b"w" * 1000)
    files = [AheadFile(path, 1)]
    with structlog.testing.capture_logs() as logs, reading_ahead(files, lambda: PLENTY) as thread:
        thread.join(30)
    assert [(line["bytes"], line["cached"]) for line in logs] == [(0, 1000)]


def test_a_file_that_does_not_fit_is_left_out_and_the_next_is_read(tmp_path: Path) -> None:
    small = cold_file(tmp_path / "small", 2 << 20)
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(1 << 40)
    with structlog.testing.capture_logs() as logs:
        files = [AheadFile(large, 1), AheadFile(small, 1)]
        with reading_ahead(files, lambda: 8 << 30) as thread:
            thread.join(30)
    assert [(line["event"], line["file"]) for line in logs] == [
        ("not read ahead", "large"), ("read ahead", "small")
    ]  # fmt: skip
    assert cached_pieces(small) == 2


def test_reading_stops_with_its_context(tmp_path: Path) -> None:
    endless = tmp_path / "endless"
    with endless.open("wb") as file:
        file.truncate(1 << 40)
    with reading_ahead([AheadFile(endless, 1)], lambda: 1 << 50) as thread:
        assert thread.is_alive()
    thread.join(30)
    assert not thread.is_alive()


def test_a_file_that_can_not_be_read_is_only_logged(tmp_path: Path) -> None:
    files = [AheadFile(tmp_path / "none", 1)]
    with structlog.testing.capture_logs() as logs, reading_ahead(files, lambda: PLENTY) as thread:
        thread.join(30)
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("read ahead failed", "warning")
    ]
