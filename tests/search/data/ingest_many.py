"""`python -m tests.search.data.ingest_many LIST`: the ingesting process for one request after another, each forked from
a process that has imported it already. LIST is JSON: [{request, out, answer}]; prints {exit status, peak memory in
bytes} for each, a line of JSON."""

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
        ended = {"status": os.waitstatus_to_exitcode(status), "peak": used.ru_maxrss * 1024}
        sys.stdout.write(json.dumps(ended) + "\n")


if __name__ == "__main__":
    main()
