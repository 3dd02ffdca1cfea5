"""`pawqueue doctor`: each thing that can be wrong is found and comes with what to do."""

import json
import re
import socket
from collections import namedtuple
from pathlib import Path

import httpx
import pytest

from contract.settings import load_settings
from deploy.local import checks
from deploy.local.checks import Finding, Level
from deploy.local.gateway_checks import check_gateway
from pawqueue.cli import app as cli
from tests.support.services import ROOT, free_port

Usage = namedtuple("Usage", "total used free")


def test_a_python_that_is_too_old_is_a_problem() -> None:
    assert checks.check_python((3, 12)).level is Level.OK
    assert checks.check_python((3, 9)).level is Level.PROBLEM


def test_packages_are_compared_with_the_lock_files(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("httpx==0.0.1 \\\n    --hash=sha256:00\nnot-there==1.0\nother==1 ; sys_platform == 'win32'\n")
    finding = checks.check_packages(lambda _group: lock)
    assert finding.level is Level.PROBLEM
    assert "2 of 2 differ" in finding.text
    assert "not-there missing instead of 1.0" in finding.text
    assert checks.check_packages().level is Level.OK


def test_a_mistyped_variable_is_named_with_what_was_meant() -> None:
    finding = checks.check_variables(
        {"PAWQUEUE_REDIS_PROT": "1", "PAWQUEUE_URL": "x", "PAWQUEUE_REDIS_URL_FILE": "x", "HOME": "/"}
    )
    assert (finding.level, finding.text) == (
        Level.WARNING,
        "nobody reads PAWQUEUE_REDIS_PROT (meant PAWQUEUE_REDIS_PORT?)",
    )


def test_every_variable_that_compose_or_training_reads_is_known() -> None:
    read = [ROOT / "docker-compose.yml", *ROOT.glob("deploy/compose/*"), *ROOT.glob("training/**/*.py")]
    text = "\n".join(path.read_text() for path in read if path.is_file())
    used = dict.fromkeys(re.findall(r"\bPAWQUEUE_[A-Z_]+", text), "x")
    assert "PAWQUEUE_PUBLISH" in used
    assert checks.check_variables(used).level is Level.OK, checks.check_variables(used).text


def test_a_setting_that_does_not_fit_is_said(tmp_path: Path) -> None:
    found = {finding.check: finding for finding in checks.check_machine({"PAWQUEUE_WORKERS": "none"})}
    assert found["settings"].level is Level.PROBLEM
    assert "PAWQUEUE_WORKERS='none'" in found["settings"].text


@pytest.mark.parametrize(("free", "level"), [(10**11, Level.OK), (10**9, Level.WARNING), (10**8, Level.PROBLEM)])
def test_room_on_the_disk(free: int, level: Level, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.local.checks.shutil.disk_usage", lambda _path: Usage(free, 0, free))
    settings = load_settings({"PAWQUEUE_STATE_DIR": str(tmp_path / "not" / "yet")})
    assert checks.check_disk(settings).level is level


def test_a_damaged_model_is_named(tmp_path: Path) -> None:
    assert checks.check_model(load_settings({"PAWQUEUE_STATE_DIR": str(tmp_path)})).level is Level.OK
    (tmp_path / "models" / "champion").mkdir(parents=True)
    finding = checks.check_model(load_settings({"PAWQUEUE_STATE_DIR": str(tmp_path)}))
    assert finding.level is Level.PROBLEM
    assert "manifest.json is missing" in finding.text


def test_redis_is_looked_at(redis_url: str) -> None:
    assert checks.check_redis(load_settings({"PAWQUEUE_REDIS_URL": redis_url})).level is Level.OK
    finding = checks.check_redis(load_settings({"PAWQUEUE_REDIS_PORT": str(free_port())}))
    assert (finding.level, finding.mend) == (Level.PROBLEM, "`make up` starts one.")


def test_a_taken_port_is_named_with_its_variable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        finding = checks.check_ports(load_settings({"PAWQUEUE_GATEWAY_PORT": str(number)}))
    assert finding.level is Level.PROBLEM
    assert f"{number} for the gateway" in finding.text
    assert "PAWQUEUE_GATEWAY_PORT" in finding.text


def gateway(answers: dict[str, httpx.Response]) -> dict[str, Finding]:
    transport = httpx.MockTransport(lambda request: answers.get(request.url.path, httpx.Response(404)))
    return {finding.check: finding for finding in check_gateway("http://gateway.test", "key", transport)}


def health(**values: object) -> httpx.Response:
    return httpx.Response(200, json={"status": "healthy", "model_loaded": True, "version": "1", **values})


def test_a_gateway_that_is_well() -> None:
    found = gateway({"/health": health(), "/readyz": httpx.Response(200)})
    assert {finding.level for finding in found.values()} == {Level.OK}
    assert set(found) == {"gateway", "queue", "worker", "access"}


def test_what_is_wrong_with_a_gateway_is_told_apart() -> None:
    job = "/v1/jobs/00000000-0000-7000-8000-000000000000"
    found = gateway({"/health": health(model_loaded=False), "/readyz": httpx.Response(503), job: httpx.Response(401)})
    assert [name for name, finding in found.items() if finding.level is Level.PROBLEM] == ["queue", "worker", "access"]
    assert all(finding.mend for finding in found.values() if finding.level is Level.PROBLEM)
    assert "no Pawqueue gateway" in gateway({"/health": httpx.Response(200, text="<html>")})["gateway"].text


def test_the_command_lists_everything_and_ends_with_1_when_there_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PAWQUEUE_REDIS_PORT", str(free_port()))
    monkeypatch.setenv("PAWQUEUE_GATEWAY_PORT", str(free_port()))
    monkeypatch.setenv("PAWQUEUE_STATE_DIR", str(tmp_path))

    def doctor(*options: str) -> int:
        return cli.run(lambda: cli.cli.main(["doctor", *options], "pawqueue", standalone_mode=False))

    assert doctor("--json") == 1
    found = {finding["check"]: finding["level"] for finding in json.loads(capsys.readouterr().out)}
    assert (found["Redis"], found["gateway"], found["Python"]) == ("problem", "problem", "ok")
    assert doctor() == 1
    assert "found a problem; mend the first one first" in capsys.readouterr().out
