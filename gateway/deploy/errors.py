"""What can go wrong between a settings file and an endpoint that answers.

DeployError
├─ InvalidDeployFile     the settings file has a missing, unknown or wrong entry
├─ DeployFailed          what is wanted can't be had, or did not come to be
└─ ManagementError       RunPod's management API, by what it means for the caller
   ├─ KeyRefused           401: the key is wrong
   ├─ NotAllowed           403: the key may not do this
   ├─ NoSuchThing          404
   ├─ Conflict             409: something else changes it, or the name is taken
   ├─ Refused              400, 422: RunPod does not take what was sent
   ├─ TooManyRequests      429, after as many tries as are sensible
   └─ NoAnswer             no answer, or one that is none
"""


class DeployError(Exception):
    """`str()` of it is one sentence for whoever deploys: what, where, what to do next."""


class InvalidDeployFile(DeployError):
    """The settings file has a missing, unknown or wrong entry."""


class DeployFailed(DeployError):
    """What is wanted can't be had, or did not come to be."""


class ManagementError(DeployError):
    """An answer of RunPod's management API that is no success."""


class KeyRefused(ManagementError):
    """401."""


class NotAllowed(ManagementError):
    """403."""


class NoSuchThing(ManagementError):
    """404."""


class Conflict(ManagementError):
    """409."""


class Refused(ManagementError):
    """400 and 422."""


class TooManyRequests(ManagementError):
    """429."""


class NoAnswer(ManagementError):
    """No answer, or one that is no JSON where JSON is due."""
