"""The queue API, the orchestrator and the page in front of the worker: `python -m gateway`."""
