"""Prints the pid of a process it started. With `exit` it then ends before that process does;
with `escape` that process leaves the group."""

import signal
import subprocess
import sys

SLEEPER = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
grandchild = subprocess.Popen(
    [sys.executable, "-c", SLEEPER], start_new_session="escape" in sys.argv
)
print(grandchild.pid, flush=True)
if "exit" not in sys.argv:
    signal.pause()
