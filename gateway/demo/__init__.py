"""The demo back end: takes jobs as a worker does, and draws over their pictures instead of editing
them, so that page and API can be worked on without GPU and ComfyUI."""

from gateway.demo.worker import DemoWorker

__all__ = ["DemoWorker"]
