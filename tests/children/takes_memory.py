"""Takes 50 MB every 10 ms, and touches them."""

import time

taken = []
while True:
    taken.append(bytearray(b"x") * 50_000_000)
    time.sleep(0.01)
