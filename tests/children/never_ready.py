"""Lives and never opens its port."""

import signal

print("starting, for ever", flush=True)
while True:
    signal.pause()
