"""Which files are system files."""

import pytest

from contract.junk import is_junk


@pytest.mark.parametrize(
    "path",
    [
        "._a.jpg", "photos/._a.jpg", "__MACOSX/a.jpg", "__MACOSX/photos/._a.jpg", ".DS_Store", "photos/.DS_Store",
        "Thumbs.db", "THUMBS.DB", "photos\\Thumbs.db", "Desktop.ini", "ehthumbs.db", "Icon\r", "$RECYCLE.BIN/a.jpg",
        "System Volume Information/x", "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", ".Trashes/501/a.jpg",
    ],
)  # fmt: skip
def test_system_files_are_recognized(path: str) -> None:
    assert is_junk(path)


@pytest.mark.parametrize(
    "path", ["a.jpg", ".hidden.jpg", "_a.jpg", "a._b.jpg", "MACOSX/a.jpg", "Thumbs.db.jpg", "thumbs/a.jpg", "", "."]
)
def test_other_files_are_not_recognized_as_system_files(path: str) -> None:
    assert not is_junk(path)
