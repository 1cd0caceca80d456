"""Checks pictures for the worker, one after the other, within bounds that the kernel holds:
`python -m handler.check_pictures LIMITS PID`. LIMITS is `ImageLimits` as JSON.

A message holds a picture; its answer holds what `check_image` makes of it, or its fault.
"""

import json
import resource
import signal
import sys
import time
from typing import IO, Any

from handler.errors import InvalidImage
from handler.machine import end_with_parent, receive_message, return_large_buffers, send_message
from handler.pictures import ImageLimits, check_image

# A picture within the limits takes up to 3 s, of the processor and not of a clock: a busy machine
# makes no picture bad.
_MOST_CPU_S = 20
# A decoder holds a picture several times: its coefficients, a canvas of each of two frames, what
# it becomes turned, converted and as a PNG.
_BYTES_PER_PIXEL = 24
_OWN_BYTES = 256_000_000


def main() -> None:
    end_with_parent(int(sys.argv[2]))
    # Ctrl-C at a terminal is for the worker.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return_large_buffers()
    limits = ImageLimits(**json.loads(sys.argv[1]))
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_DATA, most_bytes(limits))
    while True:
        _answer_next(sys.stdin.buffer, sys.stdout.buffer, limits)


def most_bytes(limits: ImageLimits) -> int:
    """Of memory, for whatever a picture within the limits needs."""
    return _OWN_BYTES + limits.pixels * _BYTES_PER_PIXEL + limits.data_bytes * 4


def _answer_next(requests: IO[bytes], answers: IO[bytes], limits: ImageLimits) -> None:
    try:
        head, (data,) = receive_message(requests)
    except EOFError:
        raise SystemExit from None
    _limit(resource.RLIMIT_CPU, int(time.process_time()) + 1 + _MOST_CPU_S)
    try:
        picture = check_image(head["name"], data, head["where"], limits, as_photo=head["as_photo"])
    except InvalidImage as error:
        send_message(answers, {"fault": error.message, "details": error.details})
    except MemoryError:
        send_message(answers, {"is_out_of_memory": True})
    else:
        found: dict[str, Any] = {
            "extension": picture.extension,
            "width": picture.width,
            "height": picture.height,
            "is_still": picture.is_still,
            "is_changed": picture.data is not data,
        }
        changed = b"" if picture.data is data else picture.data
        send_message(answers, found, changed, picture.for_comfy or b"")


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    within = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (within, hard))


if __name__ == "__main__":
    main()
