"""Messages between the worker and a process that works for it: JSON and pieces of bytes, over
pipes."""

import json
import struct
from collections.abc import Sequence
from typing import IO, Any

_COUNT = struct.Struct(">I")
_SIZE = struct.Struct(">Q")


def send_message(pipe: IO[bytes], head: Any, *pieces: bytes) -> None:
    """Raises OSError where nobody reads."""
    text = json.dumps(head).encode()
    parts: Sequence[bytes] = (text, *pieces)
    pipe.write(_COUNT.pack(len(parts)) + b"".join(_SIZE.pack(len(part)) for part in parts))
    for part in parts:
        pipe.write(part)
    pipe.flush()


def receive_message(pipe: IO[bytes]) -> tuple[Any, list[bytes]]:
    """Raises EOFError where the other side is gone."""
    count = _COUNT.unpack(_read(pipe, _COUNT.size))[0]
    sizes = [_SIZE.unpack(_read(pipe, _SIZE.size))[0] for _ in range(count)]
    text, *pieces = [_read(pipe, size) for size in sizes]
    return json.loads(text), pieces


def _read(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data
