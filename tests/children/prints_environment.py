"""Prints the names of its environment variables, one a line."""

import os

print("\n".join(sorted(os.environ)))
