"""A worker remembers what it measured, for the same processor, bundle and versions."""

import threading
from pathlib import Path
from typing import Any

import pytest

from contract.ledger.types import ChosenStrategy
from worker.runtime.remembered import Found, Remembered, key_of, processor_has_bfloat16

KEY = {"processor": "a", "bundle": "b"}
CHOICES = (ChosenStrategy(1, "wide", {"float32/wide": 1.5}), ChosenStrategy(32, "parts_8", {}))


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    Remembered(tmp_path / "strategies", KEY).write("float32", CHOICES)
    assert Remembered(tmp_path / "strategies", KEY).read() == Found(key=KEY, precision="float32", strategies=CHOICES)
    (file,) = (tmp_path / "strategies").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("change", [{"processor": "other"}, {"bundle": "other"}, {"more": 1}])
def test_another_key_is_not_known(tmp_path: Path, change: dict[str, Any]) -> None:
    Remembered(tmp_path, KEY).write("float32", CHOICES)
    assert Remembered(tmp_path, KEY | change).read() is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\x00", b'{"key": {}, "precision": 1, "strategies": [{}]}'])
def test_a_damaged_file_counts_as_none_and_is_replaced(tmp_path: Path, content: bytes) -> None:
    remembered = Remembered(tmp_path, KEY)
    remembered.write("float32", CHOICES)
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    assert remembered.read() is None
    remembered.write("bfloat16", CHOICES)
    found = remembered.read()
    assert found is not None
    assert found.precision == "bfloat16"


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    remembered = Remembered(tmp_path / "file", KEY)
    remembered.write("float32", CHOICES)
    assert "not remembered" in caplog.text
    assert remembered.read() is None


def test_a_reader_never_sees_half_of_what_several_workers_write(tmp_path: Path) -> None:
    remembered = Remembered(tmp_path, KEY)
    remembered.write("float32", CHOICES)
    many = [ChosenStrategy(size, "parts_8", {f"float32/{at}": 1.0 for at in range(200)}) for size in range(1, 20)]

    def write(precision: str) -> None:
        for _ in range(20):
            remembered.write(precision, many)

    writers = [threading.Thread(target=write, args=(precision,)) for precision in ("float32", "bfloat16")]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert remembered.read() is not None
    assert len(list(tmp_path.iterdir())) == 1


def test_the_key_depends_on_the_processor_and_on_variables_that_limit_it(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Xeon\nflags\t\t: avx2 avx512_bf16\n")
    keys = [
        key_of(cpuinfo, environ, bundle="b")
        for environ in ({}, {"ONEDNN_MAX_CPU_ISA": "AVX2"}, {"PATH": "/bin", "TF_VAR_secret": "x"})
    ]
    assert keys[0] == keys[2]
    assert keys[0] != keys[1]
    assert keys[0]["processor"] == "Xeon"
    assert keys[0] | {"bundle": "c"} == key_of(cpuinfo, {}, bundle="c")

    cpuinfo.write_text("processor\t: 0\nmodel name\t: Xeon\nflags\t\t: avx2\n")
    assert key_of(cpuinfo, {}, bundle="b") != keys[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flags\t\t: sse2 avx512_bf16 amx_tile\n", True),
        ("Features\t: fp asimd bf16\n", True),
        ("flags\t\t: sse2 avx2\n", False),
        ("", False),
    ],
)
def test_bfloat16_needs_a_processor_that_multiplies_it(tmp_path: Path, text: str, expected: bool) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert processor_has_bfloat16(tmp_path / "cpuinfo") is expected
    assert not processor_has_bfloat16(tmp_path / "missing")
