"""`python -m tests.search.data.ingest_many LIST`: runs the ingestion process for several requests in sequence, forking
each from a process with warm imports. LIST is a JSON file: [{request, out, answer}]. Prints one JSON line per request:
{status, peak memory in bytes}."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from paretofit.search.data import ingest


def _child(job: dict[str, str]) -> int:
    answer = os.open(job["answer"], os.O_CREAT | os.O_WRONLY, 0o600)
    os.dup2(answer, 1)
    os.dup2(answer, 2)
    sys.argv = ["ingest", "--request", job["request"], "--out", job["out"]]
    status = ingest.main()
    sys.stdout.flush()
    return status


def main() -> None:
    for job in json.loads(Path(sys.argv[1]).read_text()):
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            os._exit(_child(job))
        _, status, used = os.wait4(child, 0)
        usage = {"status": os.waitstatus_to_exitcode(status), "peak": used.ru_maxrss * 1024}
        sys.stdout.write(json.dumps(usage) + "\n")


if __name__ == "__main__":
    main()
