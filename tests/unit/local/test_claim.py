"""Only one process at a time can claim a state folder."""

import os
from pathlib import Path

import pytest

from deploy.local.errors import UsageError
from deploy.local.stack import claimed
from tests.support.small_disk import small_disk


def test_a_second_claim_is_rejected_with_the_id_of_the_first_process(tmp_path: Path) -> None:
    with (
        claimed(tmp_path),
        pytest.raises(UsageError, match=rf"already running \(process {os.getpid()}\)"),
        claimed(tmp_path),
    ):
        pass


def test_a_claim_is_released_when_its_context_exits(tmp_path: Path) -> None:
    with claimed(tmp_path):
        pass
    with claimed(tmp_path):
        assert (tmp_path / "logs").is_dir()


def test_files_left_by_a_crash_do_not_block_a_claim(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lock").write_text("4711\n")
    (tmp_path / "run" / "supervisord.pid").write_text("4711\n")

    with claimed(tmp_path):
        assert (tmp_path / "run" / "lock").read_text() == f"{os.getpid()}\n"


def test_the_error_for_an_unusable_state_folder_names_the_variable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(UsageError, match="Set PAWQUEUE_STATE_DIR"), claimed(tmp_path / "file"):
        pass


def test_the_error_for_a_full_disk_gives_the_reason(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 100) as disk:
        disk.fill()
        with pytest.raises(UsageError, match=r"The disk of .*/state is full\. Free some space"):
            claimed(disk.path / "state").__enter__()
