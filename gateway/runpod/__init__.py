"""RunPod as the engine: its job API for clients, and what its answers mean for a job."""
