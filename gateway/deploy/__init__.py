"""One's endpoint at RunPod: what is wanted of it, what it is, and the calls that make it so."""

from gateway.deploy.command import main

__all__ = ["main"]
