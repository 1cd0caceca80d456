"""Draws a progress bar as tqdm does, with carriage returns, then bytes that are no UTF-8."""

import sys

for step in range(5):
    sys.stdout.write(f"\r{step}/4")
sys.stdout.buffer.write(b"\n\xff\xfe broken\n")
