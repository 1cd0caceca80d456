"""What this machine is and how the worker's own process behaves on it: cards, memory, threads."""

from handler.machine.at_once import run_at_once
from handler.machine.daemon_thread import in_daemon_thread
from handler.machine.gpu import Gpu, cuda_first, gpu_fault, has_gpu, read_gpus
from handler.machine.host_memory import host_memory_bytes
from handler.machine.malloc import return_large_buffers
from handler.machine.messages import receive_message, send_message
from handler.machine.orphans import end_forks_with_worker, end_with_parent
from handler.machine.page_cache import AheadFile, reading_ahead
from handler.machine.process_pool import ProcessEnded, ProcessPool
from handler.machine.shutdown import Shutdown

__all__ = [
    "AheadFile",
    "Gpu",
    "ProcessEnded",
    "ProcessPool",
    "Shutdown",
    "cuda_first",
    "end_forks_with_worker",
    "end_with_parent",
    "gpu_fault",
    "has_gpu",
    "host_memory_bytes",
    "in_daemon_thread",
    "read_gpus",
    "reading_ahead",
    "receive_message",
    "return_large_buffers",
    "run_at_once",
    "send_message",
]
