"""Health check of containers: exits with 0 if this host's worker sends heartbeats, or with `relay` if the relay sends
job messages in time.

python -m paretofit.workers.health [relay]
"""

from __future__ import annotations

import platform
import sys

from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from paretofit.core.settings import get_settings
from paretofit.db import liveness, workers
from paretofit.db.engine import transaction

MAX_AGE_SECONDS = 60.0


def main(arguments: list[str]) -> int:
    engine = create_engine(get_settings().sqlalchemy_url, poolclass=NullPool, connect_args={"connect_timeout": 5})
    try:
        with transaction(engine) as session:
            if arguments == ["relay"]:
                overdue = liveness.overdue_job_messages(session, MAX_AGE_SECONDS)
                problem = (
                    f"overdue job messages: {overdue}, by more than {MAX_AGE_SECONDS:g} s; check the relay's log"
                    if overdue
                    else None
                )
            else:
                seen = {row.description.get("host") for row in workers.seen_within(session, MAX_AGE_SECONDS)}
                here = platform.node()
                problem = (
                    None
                    if here in seen
                    else f"no heartbeat from a worker on {here} within {MAX_AGE_SECONDS:g} s: check the worker's log"
                )
    except OperationalError as error:
        problem = f"the database is unavailable: {str(error).strip()}; check DATABASE_URL and PostgreSQL"
    if problem is not None:
        sys.stderr.write(f"{problem}\n")
    return 0 if problem is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
