"""Prints 4 MiB without a line break, then many lines, then ends: far more than a pipe holds."""

import sys

sys.stdout.write("x" * 4 * 2**20)
for number in range(20_000):
    sys.stdout.write(f"\nline {number} of many that fill the pipe again and again")
sys.stdout.write("\nthe last line")
