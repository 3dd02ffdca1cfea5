"""The table of settings."""

from pathlib import Path

import pytest

from contract.settings import SettingsError, load_settings


def test_without_variables_the_defaults_hold() -> None:
    settings = load_settings({})
    assert (settings.gateway_host, settings.gateway_port, settings.batch_size) == ("127.0.0.1", 8000, 32)
    assert settings.redis_address() == "redis://127.0.0.1:6399/0"
    assert settings.image_store_address() == str(Path("state").absolute() / "images")


def test_variables_are_read_by_prefix_and_type() -> None:
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
def test_a_bad_value_is_named_with_its_variable(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{variable}='{value}'"):
        load_settings({variable: value})


def test_all_bad_values_are_named_at_once() -> None:
    with pytest.raises(SettingsError, match=r"(?s)GATEWAY_PORT.*BATCH_SIZE"):
        load_settings({"PAWQUEUE_BATCH_SIZE": "x", "PAWQUEUE_GATEWAY_PORT": "x"})


def test_secrets_do_not_show() -> None:
    settings = load_settings({"PAWQUEUE_REDIS_URL": "redis://:hunter2@redis:6379/0"})
    assert "hunter2" not in repr(settings)
    assert settings.redis_address() == "redis://:hunter2@redis:6379/0"


def test_settings_cannot_be_changed_later() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings({}).batch_size = 1  # type: ignore[misc]
