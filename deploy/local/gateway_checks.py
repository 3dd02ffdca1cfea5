"""What `pawqueue doctor` asks the gateway: whether it answers, can accept jobs, and has somebody to do them."""

from collections.abc import Iterator
from typing import Any

import httpx

from deploy.local.checks import Finding, Level

_TIMEOUT_S = 5.0


def check_gateway(url: str, api_key: str | None, transport: httpx.BaseTransport | None = None) -> Iterator[Finding]:
    """The gateway at `url`, and what it knows of the workers."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    with httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT_S, transport=transport) as client:
        try:
            health = client.get("/health")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            mend = "`make up` starts it; if it runs elsewhere, give --url or set PAWQUEUE_URL."
            yield Finding("gateway", Level.PROBLEM, f"nothing answers at {url} ({error})", mend)
            return
        known = _object(health)
        if "model_loaded" not in known:
            mend = "Give the gateway's address by --url or PAWQUEUE_URL."
            yield Finding("gateway", Level.PROBLEM, f"what answers at {url} is no Pawqueue gateway", mend)
            return
        yield Finding("gateway", Level.OK, f"version {known.get('version', '?')} answers at {url}")
        yield _readiness(client)
        yield _worker(loaded=bool(known["model_loaded"]))
        yield _access(client, api_key)


def _readiness(client: httpx.Client) -> Finding:
    answer = client.get("/readyz")
    if answer.status_code == 200:
        return Finding("queue", Level.OK, "jobs can be accepted")
    why = str(_object(answer).get("ledger", f"HTTP {answer.status_code}"))
    return Finding("queue", Level.PROBLEM, f"no job can be accepted: {why}", "Look at Redis first, see above.")


def _worker(*, loaded: bool) -> Finding:
    if loaded:
        return Finding("worker", Level.OK, "at least one serves a model")
    mend = "Start one (`make up`, or `python -m worker`); its log in STATE_DIR/logs says why it ended, if it did."
    return Finding("worker", Level.PROBLEM, "none serves a model: images wait", mend)


def _access(client: httpx.Client, api_key: str | None) -> Finding:
    """Whether this caller may ask; of a job that does not exist, so that nothing is disturbed."""
    answer = client.get("/v1/jobs/00000000-0000-7000-8000-000000000000")
    if answer.status_code == 401:
        mend = "Set PAWQUEUE_API_KEY to a key that `pawqueue keys create` has made."
        text = "the API key is unknown here" if api_key else "an API key is asked for, and none is set"
        return Finding("access", Level.PROBLEM, text, mend)
    if answer.status_code == 403:
        return Finding("access", Level.WARNING, "the API key may not read jobs", "Create one with the scope `read`.")
    return Finding("access", Level.OK, "this caller may ask")


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        values = answer.json()
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}
