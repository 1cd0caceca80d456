"""Prints a few lines and ends with exit code 3, as ComfyUI does when a package is missing."""

import sys

print("Loading the model zoo")
print("ImportError: no module named wool", file=sys.stderr)
sys.exit(3)
