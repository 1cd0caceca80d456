"""Routes: what callers, workers and operators ask over HTTP."""
