"""Settings read from the environment, and the number of cores."""

from pathlib import Path
from urllib.parse import quote

import pytest

from contract.settings import SettingsError, load_settings, usable_cores


def test_unset_variables_use_their_defaults() -> None:
    settings = load_settings({})
    assert (settings.gateway_host, settings.gateway_port, settings.batch_size) == ("127.0.0.1", 8000, 32)
    assert settings.redis_address() == "unix://" + quote(str(Path("state/run/redis").absolute()))
    assert settings.image_store_address() == str(Path("state").absolute() / "images")


def test_the_port_that_selected_a_redis_in_version_0_1_is_rejected_if_nothing_else_selects_one() -> None:
    port = {"PAWQUEUE_REDIS_PORT": "6401"}
    with pytest.raises(SettingsError, match=r"PAWQUEUE_REDIS_PORT no longer selects a Redis.* set PAWQUEUE_STATE_DIR"):
        load_settings(port)
    assert load_settings(port | {"PAWQUEUE_STATE_DIR": "/b"}).redis_address() == "unix:///b/run/redis"
    assert load_settings(port | {"PAWQUEUE_REDIS_URL": "redis://b/0"}).redis_address() == "redis://b/0"


def test_values_are_converted_to_their_type() -> None:
    settings = load_settings(
        {"PAWQUEUE_GATEWAY_PORT": "9000", "PAWQUEUE_BATCH_WAIT_MS": "2.5", "PAWQUEUE_STATE_DIR": "/tmp/x"}
    )
    assert (settings.gateway_port, settings.batch_wait_ms, settings.state_dir) == (9000, 2.5, Path("/tmp/x"))


def test_an_empty_variable_counts_as_unset() -> None:
    assert load_settings({"PAWQUEUE_BATCH_SIZE": " "}).batch_size == 32


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PAWQUEUE_BATCH_SIZE", "many"),
        ("PAWQUEUE_BATCH_SIZE", "0"),
        ("PAWQUEUE_GATEWAY_PORT", "70000"),
        ("PAWQUEUE_PRECISION", "float64"),
    ],
)
def test_an_invalid_value_is_reported_with_its_variable(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{variable}='{value}'"):
        load_settings({variable: value})


def test_all_invalid_values_are_reported_together() -> None:
    with pytest.raises(SettingsError, match=r"(?s)GATEWAY_PORT.*BATCH_SIZE"):
        load_settings({"PAWQUEUE_BATCH_SIZE": "x", "PAWQUEUE_GATEWAY_PORT": "x"})


def test_a_path_prefix_is_normalized() -> None:
    given = {"PAWQUEUE_GATEWAY_PREFIX": "/apps/paw/", "PAWQUEUE_DASHBOARD_PREFIX": "/"}
    settings = load_settings(given)
    assert (settings.gateway_prefix, settings.dashboard_prefix) == ("/apps/paw", "")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("GATEWAY_PREFIX", "paw", "must be a path such as /paw"),
        ("GATEWAY_PREFIX", "https://example.com/paw", "must be a path such as /paw"),
        ("DASHBOARD_PREFIX", "/my board", "must be a path such as /paw"),
        ("GATEWAY_PREFIX", "/v1", "must not start with /v1"),
        ("GATEWAY_PREFIX", "/predict/cats", "must not start with /predict"),
        ("DASHBOARD_PREFIX", "/models", "must not start with /models"),
        ("TRUSTED_PROXIES", "nginx", "must be IP addresses and networks, separated by commas"),
        ("TRUSTED_PROXIES", "10.0.0.1/8", "has host bits set"),
        ("GATEWAY_URL", "http://gateway/paw?x", "should match"),
    ],
)
def test_an_unusable_proxy_setting_is_rejected_with_the_reason(name: str, value: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=f"PAWQUEUE_{name}='.*{reason}"):
        load_settings({f"PAWQUEUE_{name}": value})


def test_the_gateway_may_have_a_url_with_a_path() -> None:
    settings = load_settings({"PAWQUEUE_GATEWAY_URL": "https://example.com/paw/"})
    assert settings.gateway_address() == "https://example.com/paw"


def test_secrets_are_not_printed() -> None:
    settings = load_settings({"PAWQUEUE_REDIS_URL": "redis://:hunter2@redis:6379/0"})
    assert "hunter2" not in repr(settings)
    assert settings.redis_address() == "redis://:hunter2@redis:6379/0"


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "unix:///run/redis",
        "http://:hunter2@redis",
        "redis://:hunter2@redis:port/0",
        "REDIS://redis:6379/0",
        "redis:/redis",
        "redis://redis/zero",
        "redis://redis/0?db=2",
        "redis://:hunter2/x@redis",
        "cmVkaXM=",
    ],
)
def test_an_invalid_redis_url_is_rejected_without_printing_it(url: str) -> None:
    with pytest.raises(SettingsError, match=r"PAWQUEUE_REDIS_URL=\(hidden\): must be redis://") as caught:
        load_settings({"PAWQUEUE_REDIS_URL": url})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://redis",
        "redis://redis:6379/",
        "redis://user:p%40ss:word@10.0.0.1:6380/15",
        "redis://[::1]:6379/0",
        "rediss://:secret@redis.example.com:6380/0?ssl_ca_certs=/etc/ssl/redis.pem&ssl_cert_reqs=required",
    ],
)
def test_valid_redis_urls_are_accepted(url: str) -> None:
    assert load_settings({"PAWQUEUE_REDIS_URL": url}).redis_address() == url


def test_settings_are_immutable() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings({}).batch_size = 1  # type: ignore[misc]


def test_a_secret_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("redis://:word@there:6379/0\n")
    settings = load_settings({"PAWQUEUE_REDIS_URL_FILE": str(tmp_path / "url")})
    assert settings.redis_address() == "redis://:word@there:6379/0"


def test_a_variable_takes_precedence_over_its_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("redis://there/0")
    given = {"PAWQUEUE_REDIS_URL": "redis://here/0", "PAWQUEUE_REDIS_URL_FILE": str(tmp_path / "url")}
    assert load_settings(given).redis_address() == "redis://here/0"


def test_a_missing_secret_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"PAWQUEUE_REDIS_URL_FILE=.*No such file"):
        load_settings({"PAWQUEUE_REDIS_URL_FILE": str(tmp_path / "none")})


def test_only_secrets_are_read_from_files(tmp_path: Path) -> None:
    (tmp_path / "size").write_text("64")
    assert load_settings({"PAWQUEUE_BATCH_SIZE_FILE": str(tmp_path / "size")}).batch_size == 32


@pytest.mark.parametrize(("text", "cores"), [("100000 100000", 1), ("150000 100000", 2), ("1000 100000", 1)])
def test_the_number_of_cores_respects_the_limit_of_the_container(tmp_path: Path, text: str, cores: int) -> None:
    limit, without_limit = tmp_path / "cpu.max", usable_cores(tmp_path / "missing")
    limit.write_text(text)
    assert usable_cores(limit) == min(cores, without_limit)
    limit.write_text("max 100000")
    assert usable_cores(limit) == without_limit >= 1
