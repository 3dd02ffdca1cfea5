"""The shadow of a model in the registry: set, replaced, stopped and removed."""

import pytest
import redis

from contract.ledger import keys
from contract.ledger.ledger import Ledger
from contract.ledger.models import Begun, Shadow, VersionInfo
from tests.support.ledger import NOW

BIRDS = "birds"


@pytest.fixture
def ledger(ledger: Ledger) -> Ledger:
    """A ledger with a model of three versions, of which the first is live."""
    for version in ("1", "2", "3"):
        ledger.models.register(BIRDS, version, VersionInfo(["owl", "wren"], 8, 8, checksum=version), "w")
    return ledger


def set_shadow(
    ledger: Ledger, version: str | None = "2", sample: float = 0.25, revision: int | None = None
) -> tuple[Begun, int]:
    return ledger.models.set_shadow(BIRDS, version, sample=sample, by="ada", why="night", revision=revision, now_ms=NOW)


def shadow(ledger: Ledger) -> Shadow | None:
    model = ledger.models.model(BIRDS)
    assert model
    assert model.shadow == ledger.models.routes()[BIRDS].shadow
    return model.shadow


def test_a_shadow_is_set_and_removed(ledger: Ledger) -> None:
    begun, revision = set_shadow(ledger)
    assert begun is Begun.BEGUN
    assert shadow(ledger) == Shadow("2", 0.25, "ada", "night", revision, NOW)
    assert set_shadow(ledger, None) == (Begun.BEGUN, revision + 1)
    assert shadow(ledger) is None


def test_the_same_request_again_changes_nothing(ledger: Ledger) -> None:
    _, revision = set_shadow(ledger)
    assert set_shadow(ledger) == (Begun.BEGUN, revision)
    assert set_shadow(ledger, sample=0.5) == (Begun.BEGUN, revision + 1)
    set_shadow(ledger, None)
    assert set_shadow(ledger, None) == (Begun.BEGUN, revision + 2)


def test_a_shadow_is_stopped_with_the_reason_until_it_is_set_again(ledger: Ledger) -> None:
    _, revision = set_shadow(ledger)
    assert not ledger.models.stop_shadow(BIRDS, revision - 1, "It crashed.", "w")
    assert ledger.models.stop_shadow(BIRDS, revision, "It crashed.", "w")
    assert not ledger.models.stop_shadow(BIRDS, revision, "It crashed again.", "w")
    stopped = shadow(ledger)
    assert stopped
    assert stopped.problem == "It crashed."
    set_shadow(ledger)
    again = shadow(ledger)
    assert again
    assert (again.problem, again.revision) == ("", revision + 2)


def test_a_shadow_must_be_another_version_that_exists(ledger: Ledger) -> None:
    assert set_shadow(ledger, "1")[0] is Begun.LIVE
    assert set_shadow(ledger, "9")[0] is Begun.UNKNOWN_VERSION
    assert ledger.models.set_shadow("cars", "2")[0] is Begun.UNKNOWN_MODEL
    assert ledger.models.set_shadow("cars", None)[0] is Begun.UNKNOWN_MODEL
    assert shadow(ledger) is None


def test_setting_a_shadow_can_depend_on_the_revision(ledger: Ledger) -> None:
    model = ledger.models.model(BIRDS)
    assert model
    assert set_shadow(ledger, revision=model.revision - 1) == (Begun.CHANGED, model.revision)
    assert set_shadow(ledger, revision=model.revision) == (Begun.BEGUN, model.revision + 1)


def test_every_step_is_in_the_stream_of_changes(ledger: Ledger, redis_client: "redis.Redis") -> None:
    _, revision = set_shadow(ledger)
    ledger.models.stop_shadow(BIRDS, revision, "It crashed.", "w")
    set_shadow(ledger, None)
    entries = [entry for _, entry in redis_client.xrange(keys.MODEL_CHANGES)][-3:]
    assert [(entry["action"], entry["version"], entry["by"], entry["why"]) for entry in entries] == [
        ("shadow", "2", "ada", "night"),
        ("shadow_stopped", "2", "w", "It crashed."),
        ("no_shadow", "2", "ada", "night"),
    ]
    assert [int(entry["revision"]) for entry in entries] == [revision, revision + 1, revision + 2]
