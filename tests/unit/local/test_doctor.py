"""`pawqueue doctor`: each check finds its problem and suggests a fix."""

import json
import re
import socket
from pathlib import Path

import httpx
import pytest
import redis

from contract.settings import load_settings
from deploy.local import checks
from deploy.local.checks import Finding, Level
from deploy.local.gateway_checks import check_gateway
from pawqueue.cli import app as cli
from tests.support.services import ROOT, free_port


def test_an_old_python_is_a_problem() -> None:
    assert checks.check_python((3, 12)).level is Level.OK
    assert checks.check_python((3, 9)).level is Level.PROBLEM


def test_packages_are_compared_with_the_lock_files(tmp_path: Path) -> None:
    for name in checks.RUN_LOCKS:
        (tmp_path / f"{name}.txt").touch()
    lock = tmp_path / "gateway.txt"
    lock.write_text("httpx==0.0.1 \\\n    --hash=sha256:00\nnot-there==1.0\nother==1 ; sys_platform == 'win32'\n")
    finding = checks.check_packages(tmp_path)
    assert finding.level is Level.PROBLEM
    assert "2 of 2 differ" in finding.text
    assert "not-there missing instead of 1.0" in finding.text
    assert checks.check_packages().level is Level.OK


def test_an_unknown_variable_is_reported_with_a_similar_known_one() -> None:
    finding = checks.check_variables(
        {"PAWQUEUE_GATEWAY_PROT": "1", "PAWQUEUE_URL": "x", "PAWQUEUE_REDIS_URL_FILE": "x", "HOME": "/"}
    )
    assert (finding.level, finding.text) == (
        Level.WARNING,
        "unknown: PAWQUEUE_GATEWAY_PROT (did you mean PAWQUEUE_GATEWAY_PORT?)",
    )


def test_the_variables_of_compose_and_training_are_known() -> None:
    paths = [ROOT / "docker-compose.yml", *ROOT.glob("deploy/compose/*"), *ROOT.glob("training/**/*.py")]
    text = "\n".join(path.read_text() for path in paths if path.is_file())
    used = dict.fromkeys(re.findall(r"\bPAWQUEUE_[A-Z_]+", text), "x")
    assert "PAWQUEUE_PUBLISH" in used
    assert checks.check_variables(used).level is Level.OK, checks.check_variables(used).text


def test_an_invalid_setting_is_reported() -> None:
    found = {finding.check: finding for finding in checks.check_machine({"PAWQUEUE_WORKERS": "none"})}
    assert found["settings"].level is Level.PROBLEM
    assert "PAWQUEUE_WORKERS='none'" in found["settings"].text


@pytest.mark.parametrize(("free", "level"), [(10**11, Level.OK), (10**9, Level.WARNING), (10**8, Level.PROBLEM)])
def test_free_disk_space_is_checked(free: int, level: Level, tmp_path: Path) -> None:
    settings = load_settings({"PAWQUEUE_STATE_DIR": str(tmp_path / "not" / "yet")})
    assert checks.check_disk(settings, free_bytes=lambda _folder: free).level is level


def test_the_doctor_compares_the_lock_files_that_make_up_installs() -> None:
    assert f"LOCKS_run := {' '.join(checks.RUN_LOCKS)}\n" in (ROOT / "Makefile").read_text()


def test_an_incomplete_bundle_is_reported(tmp_path: Path) -> None:
    assert checks.check_model(load_settings({"PAWQUEUE_STATE_DIR": str(tmp_path)})).level is Level.OK
    (tmp_path / "models" / "champion").mkdir(parents=True)
    finding = checks.check_model(load_settings({"PAWQUEUE_STATE_DIR": str(tmp_path)}))
    assert finding.level is Level.PROBLEM
    assert "manifest.json is missing" in finding.text
    other = checks.check_model(load_settings({"PAWQUEUE_MODEL_CHECKSUM": "0" * 64}))
    assert other.level is Level.PROBLEM
    assert "PAWQUEUE_MODEL_CHECKSUM" in other.text


def test_redis_is_checked(redis_url: str, tmp_path: Path) -> None:
    (finding,) = checks.check_redis(load_settings({"PAWQUEUE_REDIS_URL": redis_url}))
    assert finding.level is not Level.PROBLEM
    (finding,) = checks.check_redis(load_settings({"PAWQUEUE_STATE_DIR": str(tmp_path)}))
    assert finding.level is Level.PROBLEM
    assert finding.mend == "Start it with `make up`, or correct PAWQUEUE_STATE_DIR."


def test_a_port_in_use_is_reported_with_its_variable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        finding = checks.check_ports(load_settings({"PAWQUEUE_GATEWAY_PORT": str(number)}))
    assert finding.level is Level.PROBLEM
    assert f"{number} for the gateway" in finding.text
    assert "PAWQUEUE_GATEWAY_PORT" in finding.text


READY = httpx.Response(200, json={"status": "ready", "ledger": "answers"})
NOT_READY = httpx.Response(503, json={"status": "not ready", "ledger": "Redis does not respond."})
WORKER = {"model": {"name": "cats-dogs", "version": "1"}}
NO_WORKER = {"code": "no_worker", "detail": "No worker is running."}


def gateway(readyz: httpx.Response, status: httpx.Response, job: int = 404) -> dict[str, Finding]:
    """The findings for a gateway with these responses."""
    responses = {"/readyz": readyz, "/v1/status": status}
    transport = httpx.MockTransport(lambda request: responses.get(request.url.path, httpx.Response(job)))
    return {finding.check: finding for finding in check_gateway("http://gateway.localhost", "key", transport)}


def status(*problems: dict[str, str], ready: bool = True, workers: int = 1) -> httpx.Response:
    return httpx.Response(200, json={"ready": ready, "problems": problems, "workers": [WORKER] * workers})


def test_a_healthy_gateway_has_no_problems() -> None:
    found = gateway(READY, status(workers=2))
    assert {finding.level for finding in found.values()} == {Level.OK}
    assert set(found) == {"gateway", "queue", "worker", "access"}
    assert found["worker"].text == "2 workers with cats-dogs 1"


def test_problems_of_a_gateway_are_reported_separately() -> None:
    found = gateway(NOT_READY, status(NO_WORKER, ready=False, workers=0), job=401)
    assert [name for name, finding in found.items() if finding.level is Level.PROBLEM] == ["queue", "worker", "access"]
    assert all(finding.mend for finding in found.values() if finding.level is Level.PROBLEM)


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("ledger_full", "PAWQUEUE_LEDGER_MAX_BYTES"),
        ("ledger_evicts", "Change the setting of the gateway's Redis"),
        ("ledger_unsuitable", "PAWQUEUE_REDIS_URL"),
        ("ledger_unavailable", "Check Redis first"),
        ("added_later", "Correct the cause"),
    ],
)
def test_the_advice_for_a_queue_that_accepts_no_jobs_depends_on_the_reason(code: str, advice: str) -> None:
    problem = {"code": code, "detail": "This is the reason."}
    for readiness in (READY, NOT_READY):
        found = gateway(readiness, status(problem, NO_WORKER, ready=False, workers=0))["queue"]
        assert (found.level, found.text) == (Level.PROBLEM, "jobs cannot be accepted: This is the reason.")
        assert advice in found.mend


def test_without_a_status_the_readiness_gives_the_reason() -> None:
    found = gateway(NOT_READY, httpx.Response(401))["queue"]
    assert (found.level, found.text) == (Level.PROBLEM, "jobs cannot be accepted: Redis does not respond.")
    assert found.mend


def test_each_fault_of_redis_is_a_finding_with_its_remedy(clean_redis: str) -> None:
    with redis.Redis.from_url(clean_redis) as client:
        client.execute_command("ACL", "SETUSER", "limited", "on", ">pass", "~*", "&*", "+@all", "-zadd", "-info")
        url = clean_redis.replace("redis://", "redis://limited:pass@")
        found = list(checks.check_redis(load_settings({"PAWQUEUE_REDIS_URL": url})))
        client.acl_deluser("limited")
    assert [(finding.check, finding.level) for finding in found] == [
        ("Redis", Level.PROBLEM),
        ("Redis", Level.WARNING),
    ]
    assert "to run ZADD" in found[0].text
    assert found[0].mend == "Allow it with `ACL SETUSER limited +zadd`."
    assert "does not allow INFO" in found[1].text


def test_an_image_store_in_redis_is_checked(clean_redis: str) -> None:
    environ = {"PAWQUEUE_REDIS_URL": clean_redis, "PAWQUEUE_IMAGE_STORE_URL": f"redis://127.0.0.1:{free_port()}/0"}
    finding = list(checks.check_redis(load_settings(environ)))[-1]
    assert (finding.check, finding.level) == ("image store", Level.PROBLEM)
    assert finding.mend == "Start it, or correct PAWQUEUE_IMAGE_STORE_URL."


def test_without_access_to_the_status_the_workers_are_unknown() -> None:
    found = gateway(READY, httpx.Response(401))
    assert (found["queue"].level, found["worker"].level) == (Level.OK, Level.WARNING)
    assert "PAWQUEUE_API_KEY" in found["worker"].mend


def test_a_server_that_is_not_a_gateway_is_reported() -> None:
    page = httpx.Response(200, text="<html>")
    assert "is not a Pawqueue gateway" in gateway(page, page)["gateway"].text


def test_the_command_prints_all_findings_and_exits_with_1_for_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PAWQUEUE_GATEWAY_PORT", str(free_port()))
    monkeypatch.setenv("PAWQUEUE_STATE_DIR", str(tmp_path))

    def doctor(*options: str) -> int:
        return cli.run(lambda: cli.cli.main(["doctor", *options], "pawqueue", standalone_mode=False))

    assert doctor("--json") == 1
    found = {finding["check"]: finding["level"] for finding in json.loads(capsys.readouterr().out)}
    assert (found["Redis"], found["gateway"], found["Python"]) == ("problem", "problem", "ok")
    assert doctor() == 1
    assert "found a problem. Fix the first one, then run this again." in capsys.readouterr().out
