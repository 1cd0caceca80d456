"""A worker of one child: `worker.py PORT LAUNCHER COMMAND...` prints the child's pid and waits."""

import os
import signal
import sys
from pathlib import Path

from handler.comfy.process import ComfyProcess

process = ComfyProcess(
    sys.argv[3:],
    launcher=Path(sys.argv[2]),
    port=int(sys.argv[1]),
    env=dict(os.environ),
    on_line=lambda line: print(f"line {line}", flush=True),
)
process.start()
print(f"pid {process.pid}", flush=True)
while True:
    signal.pause()
