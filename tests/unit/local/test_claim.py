"""One set of services per state folder."""

import os
from pathlib import Path

import pytest

from deploy.local.claim import claimed
from deploy.local.errors import UsageError


def test_a_second_claim_is_refused_and_names_the_first(tmp_path: Path) -> None:
    with (
        claimed(tmp_path),
        pytest.raises(UsageError, match=rf"running already \(process {os.getpid()}\)"),
        claimed(tmp_path),
    ):
        pass


def test_a_claim_ends_with_its_block(tmp_path: Path) -> None:
    with claimed(tmp_path):
        pass
    with claimed(tmp_path):
        assert (tmp_path / "logs").is_dir()


def test_what_a_crash_left_does_not_block(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lock").write_text("4711\n")
    (tmp_path / "run" / "supervisord.pid").write_text("4711\n")

    with claimed(tmp_path):
        assert (tmp_path / "run" / "lock").read_text() == f"{os.getpid()}\n"


def test_a_state_folder_that_cannot_be_made_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(UsageError, match="set PAWQUEUE_STATE_DIR"), claimed(tmp_path / "file"):
        pass
