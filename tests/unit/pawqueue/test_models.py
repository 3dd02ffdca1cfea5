"""`pawqueue models served|promote|rollback|canary|shadow`, against the gateway in this process."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from contract.job import ModelRef, now_ms
from contract.ledger.models import VersionInfo
from contract.ledger.types import Heartbeat, HeldModel
from pawqueue import ClientError, Pawqueue, RefusedError, TimedOutError
from pawqueue.client.models import ServedModel
from tests.support.images import draw
from tests.unit.pawqueue.conftest import Command
from tests.unit.pawqueue.service import Service, predicted

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _birds(service: Service, url: str) -> None:
    for version in ("1", "2"):
        service.ledger.models.register("birds", version, VersionInfo(["owl", "wren"], 8, 8, checksum=version), "w")


def report(service: Service, revision: int, problem: str = "") -> None:
    """The heartbeat of a worker that has loaded both versions, or failed to load the second."""
    now = now_ms()
    held = [HeldModel("birds", "1", "ready"), HeldModel("birds", "2", "failed" if problem else "ready", problem)]
    values = ("w", "host", "birds", "1", [], "numpy", "float32", 0.5, "", now, now)
    service.ledger.beat(Heartbeat(*values, serves=["birds"], models=held, prepared={"birds": revision}), 60_000)


@contextmanager
def working(service: Service, problem: str = "") -> Iterator[None]:
    """A worker that loads each version that is to become live."""
    stopping = threading.Event()

    def work() -> None:
        while not stopping.wait(0.01):
            if change := service.ledger.models.routes()["birds"].change:
                report(service, change.revision, problem)

    report(service, 0)
    thread = threading.Thread(target=work)
    thread.start()
    yield
    stopping.set()
    thread.join()


def test_a_version_is_promoted_and_rolled_back(service: Service, pawqueue: Command, capsys: Capture) -> None:
    with working(service):
        assert pawqueue("models", "promote", "birds", "2", "--why", "better") == 0
        assert capsys.readouterr().out == "birds@2 is live.\n"
        assert pawqueue("models", "rollback", "birds") == 0
    assert capsys.readouterr().out == "birds@1 is live.\n"
    assert pawqueue("models", "served") == 0
    assert "birds" in capsys.readouterr().out


def test_a_canary_begins_and_ends(service: Service, pawqueue: Command, capsys: Capture) -> None:
    with working(service):
        assert pawqueue("models", "canary", "birds", "2", "--percent", "2.5", "--auto-rollback", "--why", "new") == 0
    assert capsys.readouterr().out == "birds@1 is live. The canary 2 gets 2.5 % of the jobs.\n"
    canary = service.ledger.models.routes()["birds"].canary
    assert canary
    assert (canary.auto_rollback, canary.why) == (True, "new")
    service.ledger.models.set_shadow("birds", "2", sample=0.25)
    assert pawqueue("models", "served") == 0
    assert "2 (canary, 2.5 %; shadow, 25 %)" in capsys.readouterr().out
    assert pawqueue("models", "canary", "birds", "--off") == 0
    assert capsys.readouterr().out == "birds has no canary. birds@1 is live.\n"


def test_a_canary_that_cannot_be_loaded_is_an_error(service: Service, pawqueue: Command, capsys: Capture) -> None:
    with working(service, "It is damaged."):
        assert pawqueue("models", "canary", "birds", "2", "--percent", "5") == 2
    assert "It is damaged." in capsys.readouterr().err


@contextmanager
def once_canary(service: Service, action: Callable[[], object]) -> Iterator[None]:
    """Do something as soon as the canary has begun."""

    def act() -> None:
        while not service.ledger.models.routes()["birds"].canary:
            pass
        action()

    with working(service):
        thread = threading.Thread(target=act)
        thread.start()
        yield
        thread.join()


_TRIED = ("models", "canary", "birds", "2", "--percent", "50", "--promote-after", "3")


def test_a_canary_is_promoted_after_it_has_processed_some_jobs(
    service: Service, url: str, pawqueue: Command, capsys: Capture, tmp_path: Path
) -> None:
    file = tmp_path / "owl.png"
    file.write_bytes(draw())
    service.results["owl.png"] = replace(predicted(), model=ModelRef("birds", "2"))

    def process() -> None:
        with Pawqueue(url) as client:
            for _ in range(3):
                client.predict(file, model="birds")

    process()  # jobs before the canary do not count
    with once_canary(service, process):
        assert pawqueue(*_TRIED) == 0
    assert capsys.readouterr().out == "birds@2 is live.\n"


def test_a_canary_that_is_taken_back_is_not_promoted(service: Service, pawqueue: Command, capsys: Capture) -> None:
    with once_canary(service, lambda: service.ledger.models.end_canary("birds", problem="It is slower.")):
        assert pawqueue(*_TRIED) == 2
    assert "birds@2 is no longer the canary. It is slower." in capsys.readouterr().err
    assert service.ledger.models.routes()["birds"].live == "1"


def test_a_canary_that_is_taken_back_with_its_last_job_is_not_promoted(
    service: Service, pawqueue: Command, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "owl.png"
    file.write_bytes(draw())
    service.results["owl.png"] = replace(predicted(), model=ModelRef("birds", "2"))
    read = Pawqueue.model

    def end_after(client: Pawqueue, name: str) -> ServedModel:
        found = read(client, name)
        if found.values["canary"]:
            service.ledger.models.end_canary("birds", problem="It is slower.")
            for _ in range(3):
                client.predict(file, model="birds")
        return found

    monkeypatch.setattr(Pawqueue, "model", end_after)
    with working(service):
        assert pawqueue(*_TRIED) == 2
    assert "birds@2 is no longer the canary. It is slower." in capsys.readouterr().err
    assert service.ledger.models.routes()["birds"].live == "1"


def test_a_canary_with_too_few_jobs_is_ended(service: Service, pawqueue: Command, capsys: Capture) -> None:
    with working(service):
        assert pawqueue(*_TRIED, "--within", "1") == 2
    assert "has processed 0 jobs in 1 s, and was ended" in capsys.readouterr().err
    route = service.ledger.models.routes()["birds"]
    assert (route.live, route.canary) == ("1", None)


@pytest.mark.parametrize("words", [["2"], ["2", "--off"], ["--percent", "5"], ["--off", "--auto-rollback"], []])
def test_a_canary_needs_a_version_and_its_share(words: list[str], pawqueue: Command, capsys: Capture) -> None:
    assert pawqueue("models", "canary", "birds", *words) == 2
    assert "Name either a VERSION with --percent, or --off." in capsys.readouterr().err


def test_a_version_that_cannot_be_loaded_is_an_error(service: Service, pawqueue: Command, capsys: Capture) -> None:
    with working(service, "It is damaged."):
        assert pawqueue("models", "promote", "birds", "2") == 2
    assert "It is damaged." in capsys.readouterr().err


def test_a_shadow_is_set_and_removed(service: Service, pawqueue: Command, capsys: Capture) -> None:
    assert pawqueue("models", "shadow", "birds", "2", "--sample", "0.5", "--why", "night") == 0
    assert capsys.readouterr().out == "birds@2 is compared with birds@1 on 50 % of the jobs.\n"
    shadow = service.ledger.models.routes()["birds"].shadow
    assert shadow
    assert (shadow.version, shadow.sample, shadow.why) == ("2", 0.5, "night")
    assert pawqueue("models", "shadow", "birds", "--off") == 0
    assert capsys.readouterr().out == "birds has no shadow.\n"
    assert service.ledger.models.routes()["birds"].shadow is None


@pytest.mark.parametrize("arguments", [[], ["2", "--off"]])
def test_a_shadow_needs_a_version_or_off(arguments: list[str], pawqueue: Command, capsys: Capture) -> None:
    assert pawqueue("models", "shadow", "birds", *arguments) == 2
    assert "--off" in capsys.readouterr().err


def test_an_unknown_version_is_an_error(pawqueue: Command, capsys: Capture) -> None:
    assert pawqueue("models", "promote", "birds", "9") == 2
    assert "The model birds has no version 9. Its versions: 1, 2." in capsys.readouterr().err


def test_options_of_the_other_kind_of_promotion_are_refused(pawqueue: Command, capsys: Capture) -> None:
    assert pawqueue("models", "promote", "birds", "2", "--force", "because") == 2
    assert "leave out the VERSION" in capsys.readouterr().err
    assert pawqueue("models", "promote", "build/bundle", "--why", "better") == 2
    assert "name the VERSION too" in capsys.readouterr().err


def test_the_served_models_are_printed_as_json(pawqueue: Command, capsys: Capture) -> None:
    assert pawqueue("models", "served", "--json") == 0
    (birds,) = json.loads(capsys.readouterr().out)
    assert (birds["name"], birds["live"], birds["versions"]) == ("birds", "1", ["1", "2"])


def test_a_change_that_takes_too_long_is_reported_and_goes_on(service: Service, url: str) -> None:
    report(service, 0)
    with Pawqueue(url) as client, pytest.raises((TimedOutError, ClientError)):
        client.promote("birds", "2", timeout_s=1)
    assert service.ledger.models.routes()["birds"].change
    with Pawqueue(url) as client, pytest.raises(RefusedError, match="has had no live version but 1"):
        client.rollback("birds")
