"""Whether ComfyUI answers, for the image's HEALTHCHECK: exit code 0, or 1 with the reason.

Uses nothing but the standard library: it runs every half minute, beside a job.
"""

import http.client
import os
import sys

_TIMEOUT_S = 4


def main() -> int:
    # An empty value counts as not set, as in the worker's own settings.
    port = int(os.environ.get("COMFY_PORT") or 8188)
    # http.client, since urllib would follow a proxy that the environment names.
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/system_stats")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as exc:
        print(f"healthcheck: ComfyUI on port {port} does not answer: {exc}", file=sys.stderr)
        return 1
    finally:
        connection.close()
    if status != http.client.OK:
        print(f"healthcheck: ComfyUI on port {port} answers {status}", file=sys.stderr)
        return 1
    print(f"healthcheck: ComfyUI on port {port} answers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
