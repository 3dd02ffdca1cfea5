"""The checks of Redis at startup: each problem is reported with its cause."""

import re
import shutil
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis

from contract.ledger import keys
from contract.ledger.requirements import RedisReport, check_redis
from contract.ledger.types import RedisServer
from contract.settings import load_settings
from deploy.local.errors import LocalError, UsageError
from deploy.local.services import check_external_redis
from tests.support.services import ROOT, cluster_port, free_port, running_redis_with

#: The user in docs/operations.md.
_USER = re.search(r"ACL SETUSER pawqueue on >PASSWORD ([^`]+)", (ROOT / "docs" / "operations.md").read_text())
assert _USER
RIGHTS = _USER[1].split()
#: What tests change in the configuration of the shared Redis.
_CONFIGURATION = {"appendonly": "yes", "appendfsync": "no", "maxmemory": 0, "maxmemory-policy": "noeviction"}


def check(url: str, **settings: str) -> RedisReport:
    """The report on the Redis of the ledger."""
    environ = {f"PAWQUEUE_{name.upper()}": value for name, value in settings.items()}
    return check_redis(load_settings({"PAWQUEUE_REDIS_URL": url, **environ}))[0]


def problems(url: str, **settings: str) -> str:
    """All problems, one a line; fails if there is none."""
    report = check(url, **settings)
    assert report.problems, report
    assert not report.unavailable
    return "\n".join(map(report.message, report.problems))


def warnings(url: str, **settings: str) -> str:
    """All warnings, one a line; fails if there is a problem."""
    report = check(url, **settings)
    assert (report.problems, report.unavailable) == ([], None)
    return "\n".join(map(report.message, report.warnings))


@pytest.fixture
def server(clean_redis: str) -> Iterator["redis.Redis"]:
    """A client of a Redis that is configured as `make up` does. A test may change the configuration and add users."""
    with redis.Redis.from_url(clean_redis, decode_responses=True) as client:
        client.config_set("appendfsync", "always")
        yield client
        for name, value in _CONFIGURATION.items():
            client.config_set(name, value)
        client.acl_deluser("limited")


def with_user(url: str, *rights: str) -> str:
    """The URL for a new user with these rights."""
    with redis.Redis.from_url(url) as client:
        client.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">pass", *rights)
    return url.replace("redis://", "redis://limited:pass@")


def test_a_redis_as_make_up_starts_it_has_no_faults(server: "redis.Redis", clean_redis: str) -> None:
    assert warnings(clean_redis) == ""
    assert check(clean_redis).version == server.info("server")["redis_version"]


def test_the_check_changes_no_data(server: "redis.Redis", clean_redis: str) -> None:
    server.set("mine", "1")
    before = server.info("persistence")["rdb_changes_since_last_save"]
    check(clean_redis)
    assert server.keys() == ["mine"]
    assert server.info("persistence")["rdb_changes_since_last_save"] == before


# The server


@pytest.mark.parametrize("database", [0, 1])
def test_a_cluster_is_refused(tmp_path: Path, database: int) -> None:
    with running_redis_with(tmp_path, cluster_port(), "--cluster-enabled", "yes") as url:
        assert "is in cluster mode" in problems(url.replace("/0", f"/{database}"))


def test_a_replica_is_refused(clean_redis: str, tmp_path: Path) -> None:
    primary = clean_redis.rsplit(":", maxsplit=1)[-1].split("/", maxsplit=1)[0]
    with running_redis_with(tmp_path, free_port(), "--replicaof", "127.0.0.1", primary) as url:
        assert problems(url) == (
            "The Redis at PAWQUEUE_REDIS_URL is a read-only replica. Use the address of its primary."
        )


def test_a_sentinel_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "sentinel.conf"
    config.touch()
    with running_redis_with(tmp_path, free_port(), config=(str(config), "--sentinel")) as url:
        assert "is a Sentinel" in problems(url)


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_redis_that_evicts_keys_is_refused(server: "redis.Redis", clean_redis: str, policy: str) -> None:
    server.config_set("maxmemory-policy", policy)
    assert warnings(clean_redis) == ""  # without `maxmemory`, nothing is evicted
    server.config_set("maxmemory", 10**9)
    assert f"`maxmemory-policy {policy}`" in problems(clean_redis)
    assert "Set `maxmemory-policy noeviction`" in problems(clean_redis)
    server.config_set("maxmemory-policy", "noeviction")
    assert warnings(clean_redis) == ""


def test_an_image_store_that_evicts_keys_is_a_warning(server: "redis.Redis", clean_redis: str) -> None:
    server.config_set("maxmemory-policy", "allkeys-lru")
    server.config_set("maxmemory", 10**9)
    environ = {"PAWQUEUE_REDIS_URL": clean_redis, "PAWQUEUE_IMAGE_STORE_URL": clean_redis}
    ledger, images = check_redis(load_settings(environ))
    assert ledger.problems
    assert images.name == "The Redis at PAWQUEUE_IMAGE_STORE_URL"
    assert images.problems == []
    assert "could lose accepted images" in str(*images.warnings)


def test_a_redis_without_an_append_only_file_is_a_warning(server: "redis.Redis", clean_redis: str) -> None:
    server.config_set("appendonly", "no")
    assert "accepted jobs are lost when it restarts" in warnings(clean_redis)
    server.config_set("appendonly", "yes")
    server.config_set("appendfsync", "everysec")
    assert "has `appendfsync everysec`" in warnings(clean_redis)
    assert warnings(clean_redis, redis_appendfsync="everysec") == ""


def test_the_state_of_a_valkey_is_read() -> None:
    memory = {"used_memory": 1, "maxmemory": 2, "maxmemory_policy": "allkeys-lru"}
    valkey = RedisServer.from_info({**memory, "role": "slave", "server_name": "valkey", "server_mode": "cluster"})
    assert (valkey.mode, valkey.is_replica, valkey.evicts) == ("cluster", True, True)


# Rights


def test_the_documented_user_has_all_rights_and_needs_each_of_them(server: "redis.Redis", clean_redis: str) -> None:
    assert warnings(with_user(clean_redis, *RIGHTS)) == ""
    commands = [right[1:] for right in RIGHTS if right[0] == "+" and right not in ("+info", "+config|get")]
    for command in commands:
        found = problems(with_user(clean_redis, *(right for right in RIGHTS if right != f"+{command}")))
        assert f"does not allow the user `limited` to run {command.upper()}" in found
        assert f" +{command}" in found


def test_the_command_in_the_message_grants_what_is_missing(server: "redis.Redis", clean_redis: str) -> None:
    found = problems(with_user(clean_redis, "~pawqueue:job:*", "resetchannels", "+@all", "-zadd", "-info"))
    assert "to run ZADD or access the keys pawqueue:_kombu.binding*" in found
    assert f"or use the channel {keys.DONE}" in found
    grant = re.search(r"`(ACL SETUSER limited [^`]+)`", found)
    assert grant
    server.execute_command(*grant[1].split())
    assert "does not allow INFO" in warnings(clean_redis.replace("redis://", "redis://limited:pass@"))


def test_a_user_without_any_right_is_refused_with_the_rights_it_needs(server: "redis.Redis", clean_redis: str) -> None:
    url = with_user(clean_redis)
    grant = re.search(r"`(ACL SETUSER limited [^`]+)`", problems(url))
    assert grant
    server.execute_command(*grant[1].split(), "+info", "+config|get")
    assert warnings(url) == ""


def test_without_the_right_to_info_or_config_the_warning_says_what_was_not_checked(
    server: "redis.Redis", clean_redis: str
) -> None:
    text = warnings(with_user(clean_redis, "~*", "&*", "+@all", "-info"))
    assert "does not allow INFO, so whether it may evict keys" in text
    assert "was not checked" in text
    text = warnings(with_user(clean_redis, "~*", "&*", "+@all", "-config"))
    assert "does not allow CONFIG GET, so whether it has `appendfsync always` was not checked" in text


def test_the_database_number_needs_the_right_to_select(server: "redis.Redis", clean_redis: str) -> None:
    url = with_user(clean_redis, *RIGHTS).replace("/0", "/1")
    assert "'select'" in problems(url)
    server.execute_command("ACL", "SETUSER", "limited", "+select")
    assert warnings(url) == ""


# The connection


def test_a_wrong_or_missing_password_is_reported(tmp_path: Path) -> None:
    with running_redis_with(tmp_path, free_port(), "--requirepass", "secret") as url:
        assert "requires a password" in problems(url)
        found = problems(url.replace("redis://", "redis://:wrong-password@"))
        assert "rejects the user name or the password" in found
        assert "wrong-password" not in found


def test_a_database_that_does_not_exist_is_reported(clean_redis: str) -> None:
    assert "has no database 99" in problems(clean_redis.replace("/0", "/99"))


def test_an_unknown_parameter_in_the_url_is_reported(clean_redis: str) -> None:
    url = clean_redis.replace("redis://", "rediss://") + "?ssl_unknown=1"
    assert "its URL has an invalid part" in problems(url)


def test_tls_to_a_redis_without_tls_is_reported(clean_redis: str) -> None:
    found = problems(clean_redis.replace("redis://", "rediss://"))
    assert "does not use TLS. Write redis:// instead of rediss://" in found


@pytest.fixture
def tls_port(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A port with TLS, and its self-signed certificate."""
    openssl = shutil.which("openssl")
    if not openssl:
        pytest.skip("openssl is not installed")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost"
    files = ("-keyout", str(key), "-out", str(certificate), "-addext", "subjectAltName=IP:127.0.0.1")
    subprocess.run([openssl, *request.split(), *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Server(socketserver.ThreadingTCPServer):
        def get_request(self) -> tuple[Any, Any]:
            plain, address = super().get_request()
            return context.wrap_socket(plain, server_side=True), address

    with serving(Server(("127.0.0.1", 0), socketserver.BaseRequestHandler)) as port:
        yield port, certificate


def test_a_redis_with_tls_is_reported_if_the_url_has_none(tls_port: tuple[int, Path]) -> None:
    found = problems(f"redis://127.0.0.1:{tls_port[0]}/0")
    assert "requires TLS. Write rediss:// instead of redis://" in found


def test_a_certificate_that_cannot_be_verified_is_reported(tls_port: tuple[int, Path]) -> None:
    url = f"rediss://127.0.0.1:{tls_port[0]}/0"
    assert "has a certificate that cannot be verified (self-signed certificate)" in problems(url)
    assert "a file named in its URL is unreadable" in problems(f"{url}?ssl_ca_certs=/does/not/exist")


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_another_program_at_the_address_is_reported(scheme: str) -> None:
    with serving(HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)) as port:
        assert "another program listens at its address" in problems(f"{scheme}://127.0.0.1:{port}/0")


def test_a_redis_that_is_not_running_is_unavailable() -> None:
    report = check(f"redis://127.0.0.1:{free_port()}/0")
    assert report.unavailable
    assert "does not respond" in report.unavailable.text
    assert not report.problems
    assert not report.is_loading


# Replies that only a fake server gives

HELLO = "%5\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n{}\r\n$5\r\nproto\r\n:3\r\n"
HELLO += "$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n"


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[int]:
    """Serve in a thread; yields the port."""
    if isinstance(server, HTTPServer):
        server.RequestHandlerClass.log_message = lambda *_: None  # type: ignore[attr-defined]
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients close their connections early
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_address[1]  # type: ignore[misc]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def fake_redis(reply: Callable[[str], str]) -> Iterator[str]:
    """A server that replies to each command with `reply(name)`; yields its URL."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while line := self.rfile.readline():
                words = [self._word() for _ in range(int(line[1:]))]
                self.wfile.write(reply(words[0]).encode())

        def _word(self) -> str:
            return self.rfile.read(int(self.rfile.readline()[1:]) + 2).decode().strip()

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with serving(Server(("127.0.0.1", 0), Handler)) as port:
        yield f"redis://127.0.0.1:{port}/0"


def test_an_old_version_is_refused_with_both_versions() -> None:
    info = "redis_version:5.0.7\r\n"
    replies = {"HELLO": "-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n"}
    replies["INFO"] = f"${len(info)}\r\n{info}\r\n"
    with fake_redis(lambda name: replies.get(name, "+OK\r\n")) as url:
        assert "is version 5.0.7, but version 6.2 or newer is needed" in problems(url)
    with fake_redis(lambda name: HELLO.format("6.0.9") if name == "HELLO" else "+OK\r\n") as url:
        assert "is version 6.0.9, but version 6.2 or newer is needed" in problems(url)


def test_up_waits_while_redis_is_loading_its_data(capsys: pytest.CaptureFixture[str]) -> None:
    loading = {"HELLO": HELLO.format("7.2.4")}
    waits: list[float] = []

    def stop(seconds: float) -> bool:
        waits.append(seconds)
        if len(waits) == 2:
            loading["HELLO"] = HELLO.format("6.0.9")  # loaded; now the other checks follow
        return False

    loading |= dict.fromkeys(("PING", "MULTI"), "-LOADING Redis is loading the dataset in memory\r\n")
    with fake_redis(lambda name: loading.get(name, "+OK\r\n")) as url:
        report = check(url)
        assert report.is_loading
        settings = load_settings({"PAWQUEUE_REDIS_URL": url})
        with pytest.raises(UsageError, match=r"is version 6\.0\.9"):
            check_external_redis(settings, stop)
        assert len(waits) == 2
        assert capsys.readouterr().out == "The Redis at PAWQUEUE_REDIS_URL is loading its data. Waiting ...\n"
        loading["HELLO"] = HELLO.format("7.2.4")
        with pytest.raises(LocalError, match="Stopped"):
            check_external_redis(settings, lambda _seconds: True)


def test_a_redis_in_protected_mode_is_reported() -> None:
    with fake_redis(lambda _name: "-DENIED Redis is running in protected mode because ...\r\n") as url:
        assert "Set a password in Redis." in problems(url)
