"""Exit status 0 if this host's worker is heard of, or with `relay` if job messages are sent: for containers.

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

PATIENCE = 60.0


def main(arguments: list[str]) -> int:
    engine = create_engine(get_settings().sqlalchemy_url, poolclass=NullPool, connect_args={"connect_timeout": 5})
    try:
        with transaction(engine) as session:
            if arguments == ["relay"]:
                overdue = liveness.overdue_wake_ups(session, PATIENCE)
                problem = f"{overdue} job messages wait for more than {PATIENCE:g} s" if overdue else None
            else:
                seen = {row.description.get("host") for row in workers.seen_within(session, PATIENCE)}
                here = platform.node()
                problem = None if here in seen else f"no worker of {here} was heard of for {PATIENCE:g} s"
    except OperationalError as error:
        problem = str(error)
    if problem is not None:
        sys.stderr.write(f"{problem}\n")
    return 0 if problem is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
