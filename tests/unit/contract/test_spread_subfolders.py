"""The ext4 flag that spreads image subfolders over block groups."""

from pathlib import Path

import pytest

from contract.images.store import spread_subfolders

#: Inodes per block group, the default of mke2fs.
_INODES_PER_GROUP = 8192


def groups_of_subfolders(folder: Path) -> int:
    """The number of block groups over which 32 new subfolders are spread."""
    for number in range(32):
        (folder / str(number)).mkdir()
    return len({path.stat().st_ino // _INODES_PER_GROUP for path in folder.iterdir()})


def test_subfolders_are_spread_over_block_groups(tmp_path: Path) -> None:
    together, apart = tmp_path / "together", tmp_path / "apart"
    together.mkdir()
    apart.mkdir()
    if not spread_subfolders(apart):
        pytest.skip("the temporary folder is not on ext4")
    assert groups_of_subfolders(apart) > 4 * groups_of_subfolders(together)


def test_other_file_systems_are_not_changed(tmp_path: Path) -> None:
    assert not spread_subfolders(tmp_path / "missing")
    assert not spread_subfolders(Path("/proc"))
