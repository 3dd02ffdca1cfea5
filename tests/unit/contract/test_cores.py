"""The limit of a container counts, not the cores of its machine."""

from pathlib import Path

import pytest

from contract.settings import usable_cores


@pytest.mark.parametrize(("text", "cores"), [("100000 100000", 1), ("150000 100000", 2), ("1000 100000", 1)])
def test_the_limit_of_a_container_is_kept(tmp_path: Path, text: str, cores: int) -> None:
    limit = tmp_path / "cpu.max"
    limit.write_text(text)
    assert usable_cores(limit) == min(cores, usable_cores(tmp_path / "missing"))
    limit.write_text("max 100000")
    assert usable_cores(limit) == usable_cores(tmp_path / "missing") >= 1
