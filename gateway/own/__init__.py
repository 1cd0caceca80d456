"""Own GPUs: what RunPod's workers ask of RunPod, answered from the job table. Knows no HTTP."""

from gateway.own.gpus import Arrived, OwnGpus

__all__ = ["Arrived", "OwnGpus"]
