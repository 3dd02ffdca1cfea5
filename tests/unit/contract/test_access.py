"""API keys: what is stored, what a key permits, and when one is required."""

import pytest
import redis

from contract.access import KEY_CACHE_S, Access, Caller, KeyStore, Scope, make_key, revoke
from contract.errors import ForbiddenError, UnauthorizedError
from contract.job import Job
from contract.settings import SettingsError, load_settings


@pytest.fixture
def store(redis_client: "redis.Redis") -> KeyStore:
    return KeyStore(redis_client)


def made(store: KeyStore, *scopes: Scope) -> tuple[str, str]:
    key, text = make_key("tests", scopes or (Scope.SUBMIT, Scope.READ))
    store.put(key)
    return key.id, text


def test_the_secret_is_not_stored() -> None:
    key, text = make_key("tests", (Scope.READ,))
    secret = text.split("_", 2)[2]
    assert len(secret) >= 43
    assert text.startswith(f"pq_{key.id}_")
    assert secret not in repr(key)


def test_a_valid_key_identifies_its_owner(store: KeyStore) -> None:
    key_id, text = made(store)
    caller = Access(store, required=True).check(text, Scope.READ)
    assert caller.owner == key_id
    assert caller.may_see(Job("1", "bulk", 0, owner=key_id))
    assert not caller.may_see(Job("1", "bulk", 0, owner="other"))
    assert not caller.may_see(Job("1", "bulk", 0))


@pytest.mark.parametrize("change", ["", "pq", "pq_", "pq__", "x{}", "{}x", "{} ", "pq_000000_{}", "ünï", "pq_\x00_"])
def test_an_invalid_key_is_rejected_and_not_repeated_in_the_error(store: KeyStore, change: str) -> None:
    _, text = made(store)
    with pytest.raises(UnauthorizedError) as caught:
        Access(store, required=True).check(change.format(text), Scope.READ)
    assert text not in str(caught.value)


def test_the_secret_of_another_key_is_rejected(store: KeyStore) -> None:
    (first, _), (_, text) = made(store), made(store)
    with pytest.raises(UnauthorizedError):
        Access(store, required=True).check(f"pq_{first}_{text.split('_', 2)[2]}", Scope.READ)


def test_a_key_without_the_scope_is_forbidden(store: KeyStore) -> None:
    _, text = made(store, Scope.READ)
    with pytest.raises(ForbiddenError, match="`submit`"):
        Access(store, required=True).check(text, Scope.SUBMIT)


def test_a_caller_sees_nothing_by_default() -> None:
    for owner in ("", "ada"):
        assert not Caller().may_see(Job("1", "bulk", 0, owner=owner))
        assert not Caller().may_manage(Job("1", "bulk", 0, owner=owner))


def test_every_caller_may_see_every_job_if_no_key_is_required(store: KeyStore) -> None:
    caller = Access(store, required=False).check("nonsense", Scope.ADMIN)
    assert caller.owner == ""
    assert caller.may_see(Job("1", "bulk", 0, owner="other"))


def test_a_revoked_key_works_until_its_cache_entry_expires(store: KeyStore) -> None:
    now_s = [0.0]
    access = Access(store, required=True, clock=lambda: now_s[0])
    key_id, text = made(store)
    access.check(text, Scope.READ)
    revoked = revoke(store, key_id)
    assert revoked
    assert revoked.revoked_ms
    now_s[0] = KEY_CACHE_S - 0.01
    access.check(text, Scope.READ)
    now_s[0] = KEY_CACHE_S
    with pytest.raises(UnauthorizedError):
        access.check(text, Scope.READ)
    assert revoke(store, "unknown") is None


@pytest.mark.parametrize(
    ("host", "access", "required"),
    [
        ("127.0.0.1", "auto", False),
        ("localhost", "auto", False),
        ("::1", "auto", False),
        ("127.8.8.8", "auto", False),
        ("0.0.0.0", "auto", True),
        ("::", "auto", True),
        ("192.168.1.5", "auto", True),
        ("gateway", "auto", True),
        ("127.0.0.1", "required", True),
        ("0.0.0.0", "open-to-everyone", False),
    ],
)
def test_a_key_is_required_if_other_machines_can_reach_the_gateway(host: str, access: str, required: bool) -> None:
    settings = load_settings({"PAWQUEUE_GATEWAY_HOST": host, "PAWQUEUE_ACCESS": access})
    assert settings.access_is_required() is required


@pytest.mark.parametrize("rate", ["100", "fast", "0 per minute", "-1/second", "5 per fortnight", "1/second; DROP"])
def test_invalid_rate_limits_are_rejected(rate: str) -> None:
    with pytest.raises(SettingsError, match="PAWQUEUE_RATE_LIMIT"):
        load_settings({"PAWQUEUE_RATE_LIMIT": rate})
