"""What a run left, as the caller gets it: pictures compressed or converted."""

import hashlib
from dataclasses import replace

from handler.comfy_api import Execution
from handler.job.folder import JobFolder
from handler.job.outputs import Output, OutputImage, Outputs
from handler.job.reencode import Encoding, reencode
from handler.machine import in_daemon_thread
from handler.pictures import compress


async def collect(folder: JobFolder, execution: Execution, encoding: Encoding | None) -> Outputs:
    """Raises what `folder.read_outputs` raises.

    A thread can't be stopped. That of a cancelled job ends at its next file, since the job's folder
    is gone by then, and the end of the process does not wait for it.
    """
    return await in_daemon_thread(
        lambda: folder.read_outputs(execution, lambda file: _as_asked(file, encoding))
    )


def _as_asked(file: Output, encoding: Encoding | None) -> Output:
    if not isinstance(file, OutputImage):
        return file
    if encoding is not None:
        file = reencode(file, encoding)
    if (data := compress(file.data)) is file.data:
        return file
    return replace(file, data=data, sha256=hashlib.sha256(data).hexdigest())
