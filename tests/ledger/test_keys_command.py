"""The command `pawqueue keys`."""

import json

import pytest
import redis
from click.testing import CliRunner, Result

from contract.access import Access, KeyStore, Scope
from contract.errors import UnauthorizedError
from contract.ledger import keys
from contract.ledger.connection import connect
from gateway.keys_cli import keys as keys_command


@pytest.fixture
def environ(clean_redis: str) -> dict[str, str]:
    return {"PAWQUEUE_REDIS_URL": clean_redis}


def run(environ: dict[str, str], *arguments: str) -> Result:
    return CliRunner().invoke(keys_command, arguments, env=environ)


def check(environ: dict[str, str], text: str, scope: Scope) -> str:
    with connect(environ["PAWQUEUE_REDIS_URL"]) as client:
        return Access(KeyStore(client), required=True).check(text, scope).owner


def test_a_key_is_created_listed_and_revoked(environ: dict[str, str]) -> None:
    made = run(environ, "create", "--name", "office", "--rate-limit", "5 per minute")
    text = made.stdout.strip()
    assert (made.exit_code, text.count("\n")) == (0, 0)
    key_id = check(environ, text, Scope.SUBMIT)
    listed = run(environ, "list").stdout
    assert key_id in listed
    assert "submit,read" in listed
    assert text.split("_", 2)[2] not in listed
    assert run(environ, "revoke", key_id).exit_code == 0
    with pytest.raises(UnauthorizedError):
        check(environ, text, Scope.SUBMIT)
    (row,) = json.loads(run(environ, "list", "--json").stdout)
    assert row["revoked_at"] >= row["created_at"]


def test_json_output_contains_the_key(environ: dict[str, str]) -> None:
    row = json.loads(run(environ, "create", "--name", "x", "--scope", "admin", "--json").stdout)
    assert check(environ, row["key"], Scope.ADMIN) == row["id"]
    assert row["scopes"] == ["admin"]


def test_invalid_arguments_are_usage_errors(environ: dict[str, str]) -> None:
    for arguments in (
        ("create",),
        ("create", "--name", "a\nb"),
        ("create", "--name", "x", "--scope", "everything"),
        ("create", "--name", "x", "--rate-limit", "often"),
        ("revoke", "unknown"),
    ):
        result = run(environ, *arguments)
        assert result.exit_code == 2, arguments
        assert "Traceback" not in result.output
    assert "no API key" in run(environ, "list").stderr


@pytest.mark.parametrize(
    ("environ", "advice"),
    [
        ({"PAWQUEUE_REDIS_URL": "redis://:secret@127.0.0.1:1/0"}, "Start it, or correct PAWQUEUE_REDIS_URL."),
        ({"PAWQUEUE_STATE_DIR": "/nowhere"}, "Start it with `make up`, or correct PAWQUEUE_STATE_DIR."),
    ],
)
def test_without_redis_the_error_explains_how_to_start_it(environ: dict[str, str], advice: str) -> None:
    result = run(environ, "list")
    assert result.exit_code == 2
    assert advice in result.output
    assert "secret" not in result.output


def test_the_error_for_a_redis_that_rejects_the_command_names_the_cause(environ: dict[str, str]) -> None:
    url = environ["PAWQUEUE_REDIS_URL"].replace("redis://", "redis://unknown:secret@")
    result = run({"PAWQUEUE_REDIS_URL": url}, "list")
    assert result.exit_code == 2
    assert "rejects the user name or the password. Correct PAWQUEUE_REDIS_URL." in result.output
    assert "secret" not in result.output


def test_a_key_can_have_a_webhook(environ: dict[str, str], redis_client: "redis.Redis") -> None:
    def webhook() -> str:
        (row,) = json.loads(run(environ, "list", "--json").stdout)
        return str(row["webhook"])

    made = json.loads(run(environ, "create", "--name", "x", "--webhook", "https://a.example/", "--json").stdout)
    assert (made["webhook"], webhook()) == ("https://a.example/", "https://a.example/")
    assert run(environ, "webhook", made["id"], "https://b.example/").exit_code == 0
    assert webhook() == "https://b.example/"
    refused = run(environ, "webhook", made["id"], "http://127.0.0.1/")
    assert (refused.exit_code, "not a public address" in refused.output) == (2, True)
    assert run(environ, "create", "--name", "y", "--webhook", "ftp://a.example/").exit_code == 2
    assert run(environ, "webhook", "unknown", "https://b.example/").exit_code == 2
    assert run(environ, "webhook", made["id"]).exit_code == 0
    assert webhook() == ""
    stored = json.loads(str(redis_client.hget(keys.API_KEYS, made["id"])))
    assert "webhook" not in stored, "gateways of an earlier version reject the field"
