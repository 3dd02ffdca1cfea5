"""`/v1/submissions/<id>/results`: two orders, paging, formats, and readers that miss nothing."""

import csv
import io
from typing import Any

import hypothesis.strategies as st
import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, multiple, rule, run_state_machine_as_test

from contract.job import Job, JobError, JobResult, JobStatus
from contract.ledger import keys
from contract.ledger.types import Sweep
from contract.queues import BULK
from contract.result_row import CSV_COLUMNS
from contract.submission import image_job_id
from gateway.http.submission_schemas import ResultLine
from tests.support.ledger import claim_jobs, forget_order, store
from tests.unit.gateway.conftest import Gateway, assert_problem
from tests.unit.gateway.test_submissions import RED, ids, open_submission, results, send

TTL_S = 60
#: A time after the end of every lease.
_LATER_MS = 10**14


def followed(gateway: Gateway, url: str, limit: int, place: str = "cursor") -> list[int]:
    """The numbers of all jobs as read in pages, each from the place of the last row of the page before."""
    numbers, at = [], 0
    while page := results(gateway, url, f"?{place}={at}&limit={limit}"):
        numbers += [row["n"] for row in page]
        at = page[-1]["n" if place == "after" else place]
    return numbers


def test_the_cursor_reads_results_in_the_order_in_which_jobs_finish(gateway: Gateway) -> None:
    url = open_submission(gateway)
    job_ids = ids(send(gateway, url, {f"{n}.png": RED for n in range(5)}))
    assert results(gateway, url, "?cursor=0") == []
    gateway.finish([job_ids[3]])
    gateway.finish([job_ids[1]], JobResult(error=JobError("undecodable_image", "broken")))
    rows = results(gateway, url, "?cursor=0")
    assert [(row["n"], row["cursor"], row["status"]) for row in rows] == [(4, 1, "succeeded"), (2, 2, "failed")]
    gateway.finish([job_ids[0]])
    assert [(row["n"], row["cursor"]) for row in results(gateway, url, "?cursor=2")] == [(1, 3)]
    assert [row["n"] for row in results(gateway, url, "?cursor=0&limit=2")] == [4, 2]
    assert [row["cursor"] for row in results(gateway, url, "?cursor=0&status=failed")] == [2]
    assert results(gateway, url, "?cursor=99") == []
    for row in rows:
        ResultLine.model_validate(row, strict=True)


def test_results_in_order_of_acceptance_end_before_the_first_unfinished_job(gateway: Gateway) -> None:
    url = open_submission(gateway)
    job_ids = ids(send(gateway, url, {f"{n}.png": RED for n in range(5)}))
    gateway.finish([job_ids[1], job_ids[2]])
    assert results(gateway, url) == results(gateway, url, "?after=0") == []
    assert results(gateway, url, "?status=succeeded") == []
    gateway.finish([job_ids[0]])
    rows = results(gateway, url)
    assert [(row["n"], row["cursor"]) for row in rows] == [(1, None), (2, None), (3, None)]
    assert [row["n"] for row in results(gateway, url, "?after=1&limit=1")] == [2]
    gateway.finish(job_ids)
    assert [row["n"] for row in results(gateway, url, "?after=3")] == [4, 5]
    assert results(gateway, url, "?after=99") == []
    for row in rows:
        ResultLine.model_validate(row, strict=True)


def test_unfinished_jobs_can_be_selected_in_order_of_acceptance(gateway: Gateway) -> None:
    url = open_submission(gateway)
    job_ids = ids(send(gateway, url, {f"{n}.png": RED for n in range(5)}))
    gateway.finish([job_ids[1]])
    assert [row["n"] for row in results(gateway, url, "?status=queued&after=1")] == [3, 4, 5]
    assert [row["n"] for row in results(gateway, url, "?status=queued&status=succeeded")] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("place", ["after", "cursor"])
def test_results_whose_record_has_expired_are_omitted(
    gateway: Gateway, redis_client: "redis.Redis", place: str
) -> None:
    url = open_submission(gateway)
    job_ids = ids(send(gateway, url, {f"{n}.png": RED for n in range(4)}))
    gateway.finish(job_ids)
    redis_client.delete(keys.job(job_ids[0]), keys.job(job_ids[2]))
    assert followed(gateway, url, 1, place) == [2, 4]
    assert ids(send(gateway, url, {"0.png": RED})) == [job_ids[0]]  # a new job under the id of the expired one
    gateway.finish([job_ids[0]])
    assert followed(gateway, url, 1, place) == [2, 4, 5]


def test_one_response_streams_the_jobs_that_finish_meanwhile(gateway: Gateway) -> None:
    url = open_submission(gateway)
    jobs = [Job(f"job-{n}", BULK, 1, file=str(n), submission=url.rpartition("/")[2]) for n in range(450)]
    store(gateway.ledger, jobs)
    job_ids = [job.id for job in jobs]
    gateway.finish(job_ids[300:])
    left = [job_ids[:200], job_ids[200:300]]
    gateway.ledger.hooks["get"] = lambda: gateway.finish(left.pop()) if left else None  # reads a page
    rows = results(gateway, url, "?cursor=0")
    assert [row["cursor"] for row in rows] == list(range(1, 451))
    assert [row["n"] for row in rows[:150]] == list(range(301, 451))
    assert {row["n"] for row in rows} == set(range(1, 451))


def test_csv_has_the_columns_of_the_command_line_client_and_the_cursor_last(gateway: Gateway) -> None:
    url = open_submission(gateway)
    gateway.finish(ids(send(gateway, url, {"x;=1+1;.png": RED, 'a "b", c.png': RED, "notes.txt": b"x"})))
    for response in (
        gateway.client.get(f"{url}/results?format=csv"),
        gateway.client.get(f"{url}/results", headers={"Accept": "text/csv"}),
    ):
        assert response.mimetype == "text/csv"
        rows = list(csv.DictReader(io.StringIO(response.text)))
        assert tuple(rows[0]) == CSV_COLUMNS
        assert [row["file"] for row in rows] == ["x;'=1+1;.png", 'a "b", c.png', "notes.txt"]
        assert (rows[0]["label"], rows[0]["confidence"], rows[0]["model"]) == ("cat", "0.75", "cats-dogs@1")
        assert (rows[2]["status"], rows[2]["error_code"]) == ("failed", "not_an_image")
    followed = list(csv.DictReader(io.StringIO(gateway.client.get(f"{url}/results?cursor=1&format=csv").text)))
    assert tuple(followed[0]) == (*CSV_COLUMNS, "cursor")
    assert [row["cursor"] for row in followed] == ["2", "3"]
    response = gateway.client.get(f"{url}/results?format=ndjson", headers={"Accept": "text/csv"})
    assert response.mimetype == "application/x-ndjson"


@pytest.mark.parametrize("query", ["after=-1", "after=x", "status=done", "format=xml", "after=99999999999999999999"])
@pytest.mark.parametrize("place", ["after", "cursor"])
def test_invalid_result_parameters_are_rejected(gateway: Gateway, query: str, place: str) -> None:
    query = query.replace("after", place)
    assert_problem(gateway.client.get(f"{open_submission(gateway)}/results?{query}"), 400, "bad_request")


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("cursor=5&after=5", "`cursor` and `after` select different orders. Send only one of them."),
        (
            "cursor=0&status=failed&status=queued",
            "`cursor` reads finished jobs, not those with status `queued`. Leave out one of the two.",
        ),
    ],
)
def test_a_cursor_excludes_what_it_cannot_read(gateway: Gateway, query: str, detail: str) -> None:
    response = gateway.client.get(f"{open_submission(gateway)}/results?{query}")
    assert assert_problem(response, 400, "bad_request")["detail"] == detail


class Reader:
    """Follows the results of a submission; each row must be new."""

    def __init__(self, gateway: Gateway, url: str, place: str, limit: int | None, *, as_csv: bool) -> None:
        self.gateway, self.url, self.place, self.as_csv = gateway, url, place, as_csv
        self.limit = "" if limit is None else f"&limit={limit}"
        self.at = 0
        self.files: list[str] = []

    def read(self) -> int:
        """Read once and return the number of rows."""
        found = self._rows(f"?{self.place}={self.at}{self.limit}")
        self.files += [row["file"] for row in found]
        assert len(set(self.files)) == len(self.files), "each row once"
        if found:
            self.at = int(found[-1][self.place])
        return len(found)

    def _rows(self, query: str) -> list[dict[str, Any]]:
        if self.as_csv:
            text = self.gateway.client.get(f"{self.url}/results{query}&format=csv").text
            return list(csv.DictReader(io.StringIO(text)))
        return [row | {"file": row["custom_id"], "after": row["n"]} for row in results(self.gateway, self.url, query)]


class ReaderOfVersion01:
    """Follows the results like `pawqueue submit` of version 0.1: from its first gap, and skips what it has."""

    def __init__(self, gateway: Gateway, url: str) -> None:
        self.gateway, self.url = gateway, url
        self.position = 0
        self.ahead: dict[int, str] = {}
        self.files: list[str] = []

    def read(self) -> int:
        """Read once and return the number of new rows."""
        counts = self.gateway.client.get(self.url).get_json()["counts"]
        limit = counts["total"] - counts["queued"] - counts["running"] - self.position
        if limit <= len(self.ahead):
            return 0
        rows = results(self.gateway, self.url, f"?after={self.position}&limit={limit}")
        new = {row["n"]: row["custom_id"] for row in rows if row["n"] not in self.ahead}
        self.ahead |= new
        self.files += new.values()
        while self.ahead.pop(self.position + 1, None):
            self.position += 1
        return len(new)


class Readers(RuleBasedStateMachine):
    """Jobs of one submission finish in any order and way, also in the middle of a response, while others read."""

    waiting = Bundle("waiting")

    def __init__(self, gateway: Gateway, client: "redis.Redis") -> None:
        super().__init__()
        client.flushall()
        self.gateway, self.client = gateway, client
        self.url = open_submission(gateway)
        self.submission_id = self.url.rpartition("/")[2]
        self.files: list[str] = []
        self.readers: list[Reader | ReaderOfVersion01] = []

    @rule(target=waiting, count=st.integers(1, 6))
    def submit(self, count: int) -> Any:
        files = [f"{len(self.files) + n}.png" for n in range(count)]
        jobs = [
            Job(image_job_id(self.submission_id, file), BULK, 1, file=file, submission=self.submission_id)
            for file in files
        ]
        store(self.gateway.ledger, jobs)
        self.files += files
        return multiple(*(job.id for job in jobs))

    @rule()
    def reject(self) -> None:
        file = f"{len(self.files)}.png"
        result = JobResult(error=JobError("not_an_image", "no"))
        job_id = image_job_id(self.submission_id, file)
        job = Job(job_id, BULK, 1, JobStatus.FAILED, file=file, submission=self.submission_id, result=result)
        self.gateway.ledger.reject([job], TTL_S)
        self.files.append(file)

    @rule(job_ids=st.lists(consumes(waiting), min_size=1, max_size=4))
    def finish(self, job_ids: list[str]) -> None:
        self.gateway.finish(job_ids)

    @rule(job_id=consumes(waiting))
    def cancel(self, job_id: str) -> None:
        self.gateway.ledger.cancel([job_id], TTL_S)

    @rule(job_id=consumes(waiting))
    def lose(self, job_id: str) -> None:
        """The only attempt kills its worker."""
        (claim,) = claim_jobs(self.gateway.ledger, [job_id], 1, TTL_S)
        assert claim
        self.gateway.ledger.begin([claim])
        self.gateway.ledger.recover(Sweep(BULK, max_attempts=1, ttl_s=TTL_S), _LATER_MS)

    @rule(job_id=consumes(waiting), stored_by=st.sampled_from(["0.1", "this version"]))
    def finish_in_a_worker_of_version_0_1(self, job_id: str, stored_by: str) -> None:
        self.gateway.finish([job_id])
        forget_order(self.client, self.gateway.job(job_id), stored_by=stored_by)

    @rule(place=st.sampled_from(["after", "cursor"]), limit=st.none() | st.integers(1, 4), as_csv=st.booleans())
    def start_reader(self, place: str, limit: int | None, as_csv: bool) -> None:
        as_csv = as_csv and place == "cursor"
        self.readers.append(Reader(self.gateway, self.url, place, limit, as_csv=as_csv))

    @rule()
    def start_reader_of_version_0_1(self) -> None:
        self.readers.append(ReaderOfVersion01(self.gateway, self.url))

    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        if self.readers:
            data.draw(st.sampled_from(self.readers)).read()

    @rule(data=st.data(), job_ids=st.lists(consumes(waiting), min_size=1, max_size=4))
    def finish_during_a_response(self, data: st.DataObject, job_ids: list[str]) -> None:
        self.gateway.ledger.hooks["get"] = lambda: self.gateway.finish(job_ids)
        self.read(data)
        del self.gateway.ledger.hooks["get"]
        self.gateway.finish(job_ids)

    def teardown(self) -> None:
        self.gateway.finish(self.gateway.ledger.submission_job_ids(self.submission_id, 0, 1000))
        for reader in self.readers:
            while reader.read():
                pass
            assert sorted(reader.files) == sorted(self.files), "no row is missed"


def test_every_reader_gets_each_row_once_in_whatever_order_jobs_finish(
    gateway: Gateway, redis_client: "redis.Redis"
) -> None:
    options = settings(
        max_examples=25,
        stateful_step_count=25,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],  # shrinking a failure takes longer than the time limit of a test
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(lambda: Readers(gateway, redis_client), settings=options)
