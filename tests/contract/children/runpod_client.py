"""RunPod's SDK as a client: `runpod_client.py URL KEY ENDPOINT_ID`; what it saw goes to stdout."""

import json
import sys
import time

import runpod

runpod.endpoint_url_base, runpod.api_key = sys.argv[1:3]
endpoint = runpod.Endpoint(sys.argv[3])

job = endpoint.run({"input": {"prompt": "a red hat"}, "policy": {"ttl": 60_000}})
seen = [job.status()]
while seen[-1] not in ("COMPLETED", "FAILED"):
    time.sleep(0.02)
    seen.append(job.status())
other = endpoint.run({"prompt": "another"})
print(
    json.dumps(
        {
            "states": sorted(set(seen)),
            "output": sorted(job.output()),
            "cancelled": other.cancel(),
            "after": other.status(),
            "health": endpoint.health(),
        }
    )
)
