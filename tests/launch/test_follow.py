"""Log files on a terminal."""

from __future__ import annotations

import io
from pathlib import Path

from paretofit.launch.follow import Follower


def test_new_lines_are_copied_with_their_label(tmp_path: Path) -> None:
    output = io.StringIO()
    log = tmp_path / "api.log"
    log.write_text("before\n")
    follower = Follower(output)
    follower.follow("api", log)
    follower.follow("relay", tmp_path / "relay.log")
    with log.open("a") as file:
        file.write("one\ntwo\nunfinish")
    (tmp_path / "relay.log").write_text("three\n")
    follower.stop()
    assert output.getvalue().split("\n") == ["         api | one", "         api | two", "       relay | three", ""]
