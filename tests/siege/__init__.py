"""A real gateway, its workers, RunPod's stand-in and its database, and faults drawn by a seed."""
