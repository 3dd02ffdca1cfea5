"""Checks of `pawqueue doctor`: whether a gateway responds, accepts jobs, has a worker, and accepts the API key."""

from collections.abc import Iterator
from typing import Any

import httpx

from contract.settings import variable_of
from contract.status import NO_WORKER
from deploy.local.checks import Finding, Level

_TIMEOUT_S = 5.0
#: What to do, by the code of a problem in `GET /v1/status`.
_REMEDIES = {
    "ledger_unavailable": "Check Redis first (see above).",
    "ledger_evicts": "Change the setting of the gateway's Redis; a restart is not needed.",
    "ledger_unsuitable": f"Set {variable_of('redis_url')} to another Redis, and restart the services.",
    "ledger_full": f"Wait until finished jobs expire ({variable_of('result_ttl_s')}), or give Redis more memory and "
    f"raise {variable_of('ledger_max_bytes')}.",
}


def check_gateway(url: str, api_key: str | None, transport: httpx.BaseTransport | None = None) -> Iterator[Finding]:
    """The findings about the gateway at `url`."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    with httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT_S, transport=transport) as client:
        try:
            readiness = client.get("/readyz")
            status = client.get("/v1/status")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            mend = "Start it with `make up`. If it runs elsewhere, use --url or set PAWQUEUE_URL."
            yield Finding("gateway", Level.PROBLEM, f"no response from {url} ({error})", mend)
            return
        if "ledger" not in _object(readiness):
            mend = "Set the gateway's address with --url or PAWQUEUE_URL."
            yield Finding("gateway", Level.PROBLEM, f"{url} is not a Pawqueue gateway", mend)
            return
        yield Finding("gateway", Level.OK, f"responds at {url}")
        yield _queue(readiness, status)
        yield _worker(status)
        yield _access(client, api_key)


def _queue(readiness: httpx.Response, status: httpx.Response) -> Finding:
    problems = [problem for problem in _object(status).get("problems") or [] if problem["code"] != NO_WORKER.code]
    if problems:
        reasons = " ".join(problem["detail"] for problem in problems)
        remedy = _REMEDIES.get(problems[0]["code"], "Correct the cause, then run this again.")
        return Finding("queue", Level.PROBLEM, f"jobs cannot be accepted: {reasons}", remedy)
    if readiness.status_code != 200:  # the status may require an API key
        reason = str(_object(readiness)["ledger"])
        return Finding("queue", Level.PROBLEM, f"jobs cannot be accepted: {reason}", _REMEDIES["ledger_unavailable"])
    return Finding("queue", Level.OK, "jobs can be accepted")


def _worker(status: httpx.Response) -> Finding:
    if status.status_code != 200:
        mend = "Set PAWQUEUE_API_KEY to a key with the scope `read`: this gateway's status needs one."
        return Finding("worker", Level.WARNING, f"unknown: GET /v1/status returned {status.status_code}", mend)
    workers = _object(status).get("workers") or []
    if workers:
        models = sorted({f"{worker['model']['name']} {worker['model']['version']}" for worker in workers})
        count = f"{len(workers)} worker{'s' if len(workers) > 1 else ''}"
        return Finding("worker", Level.OK, f"{count} with {', '.join(models)}")
    mend = "Start one with `make up` or `python -m worker`. If it exited, read its log in STATE_DIR/logs."
    return Finding("worker", Level.PROBLEM, "none is running, so jobs wait", mend)


def _access(client: httpx.Client, api_key: str | None) -> Finding:
    """Whether this caller may read jobs. The request is for a job that does not exist."""
    answer = client.get("/v1/jobs/00000000-0000-7000-8000-000000000000")
    if answer.status_code == 401:
        mend = "Set PAWQUEUE_API_KEY to a key made with `pawqueue keys create`."
        text = "the API key is unknown" if api_key else "an API key is required, and none is set"
        return Finding("access", Level.PROBLEM, text, mend)
    if answer.status_code == 403:
        return Finding("access", Level.WARNING, "the API key may not read jobs", "Create one with the scope `read`.")
    return Finding("access", Level.OK, "requests are allowed")


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        values = answer.json()
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}
