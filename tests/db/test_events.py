from __future__ import annotations

import threading

import pytest
from sqlalchemy import Engine

from paretofit.db import events
from paretofit.db.engine import transaction
from tests.db import rows


def test_event_numbers_have_no_gaps(engine: Engine) -> None:
    search_id = rows.add_search(engine)

    def write(number: int) -> None:
        for turn in range(10):
            try:
                with transaction(engine) as session:
                    events.append(session, search_id, "search.running", {"writer": number})
                    if turn % 3 == number % 3:
                        raise InterruptedError
            except InterruptedError:
                continue

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    written = [event.seq for event in rows.events(engine, search_id)]
    assert written == list(range(1, len(written) + 1))
    assert len(written) == rows.search(engine, search_id).event_seq
    with transaction(engine) as session:
        assert [event.seq for event in events.after(session, search_id, 5, 3)] == [6, 7, 8]


def test_unknown_type_or_search_is_refused(engine: Engine) -> None:
    with transaction(engine) as session:
        with pytest.raises(ValueError, match="unknown event type"):
            events.append(session, "srch_none", "search.gone", {})
        with pytest.raises(LookupError, match="unknown search srch_none"):
            events.append(session, "srch_none", "search.running", {})
