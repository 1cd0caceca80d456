"""One job from its input to its answer."""

from handler.job.delivery import AnswerLimits, Deliverer
from handler.job.endpoint import Endpoint
from handler.job.parse import Job, JobRules, parse_job
from handler.job.prepare import prepare_edit
from handler.job.pruner import Pruner
from handler.job.runner import Runner
from handler.job.warm_up import warm_up, warm_up_nodes

__all__ = [
    "AnswerLimits",
    "Deliverer",
    "Endpoint",
    "Job",
    "JobRules",
    "Pruner",
    "Runner",
    "parse_job",
    "prepare_edit",
    "warm_up",
    "warm_up_nodes",
]
