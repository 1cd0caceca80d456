"""RunPod's SDK: its loop, its checks and what is mended in both. Nothing else imports it."""

from handler.runpod.fitness import Check, fitness_checks, run_checks
from handler.runpod.serverless import register_fitness_checks, serve

__all__ = ["Check", "fitness_checks", "register_fitness_checks", "run_checks", "serve"]
