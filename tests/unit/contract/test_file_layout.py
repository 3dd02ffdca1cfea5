"""The hint that keeps new images cheap on ext4, and that it harms nowhere."""

from pathlib import Path

import pytest

from contract.images.store import spread_subfolders

#: Inodes of a block group, as mke2fs lays them out.
_INODES_A_GROUP = 8192


def groups_of_subfolders(folder: Path) -> int:
    """In how many block groups 32 new subfolders lie."""
    for number in range(32):
        (folder / str(number)).mkdir()
    return len({path.stat().st_ino // _INODES_A_GROUP for path in folder.iterdir()})


def test_subfolders_lie_apart(tmp_path: Path) -> None:
    together, apart = tmp_path / "together", tmp_path / "apart"
    together.mkdir()
    apart.mkdir()
    if not spread_subfolders(apart):
        pytest.skip("the file system of the temporary folder is not ext4: it takes no such hint")
    assert groups_of_subfolders(apart) > 4 * groups_of_subfolders(together)


def test_where_it_cannot_be_given_nothing_happens(tmp_path: Path) -> None:
    assert not spread_subfolders(tmp_path / "missing")
    assert not spread_subfolders(Path("/proc"))
