"""A caller's request: checked whole, stored, and turned into a job and the worker's input."""
