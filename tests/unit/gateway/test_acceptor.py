"""The acceptor: group commit of single uploads, lists of uploads, and failures of its parts."""

import gc
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from contract.errors import ConflictError, NotAnImageError, PawqueueError, QueueFullError, UnavailableError
from contract.job import new_job_id
from contract.ledger.types import Submit
from contract.queues import BULK, INTERACTIVE
from gateway.accept.acceptor import Acceptor, Upload
from tests.support.images import draw
from tests.support.services import wait_until
from tests.unit.gateway.conftest import Gateway, MakeGateway

IMAGE = draw()


@dataclass(slots=True)
class WatchedUpload(Upload):
    """An upload that shows when the acceptor has checked it and adds it to a group."""

    is_checked: bool = False

    def to_submit(self) -> Submit:
        self.is_checked = True
        return Upload.to_submit(self)


def submit_all(acceptor: Acceptor, uploads: Sequence[Upload]) -> tuple[list[threading.Thread], list[Exception]]:
    """Submit each upload in its own thread; returns the threads and the list that collects their errors."""
    errors: list[Exception] = []

    def submit(upload: Upload) -> None:
        try:
            acceptor.submit(upload)
        except PawqueueError as error:
            errors.append(error)

    threads = [threading.Thread(target=submit, args=(upload,)) for upload in uploads]
    for thread in threads:
        thread.start()
    return threads, errors


def join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def fail_with(error: Exception) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


def test_a_single_upload_is_accepted_immediately(gateway: Gateway) -> None:
    job = gateway.services.acceptor.submit(Upload(IMAGE, INTERACTIVE))
    assert gateway.new_jobs == [(INTERACTIVE, [job.id])]
    assert gateway.job(job.id) == job
    assert gateway.image_of(job) == IMAGE


def test_a_rejected_image_does_not_stay_in_memory(gateway: Gateway) -> None:
    data = b"not an image" * 1000
    gc.collect()
    gc.disable()  # the garbage collector would hide a reference cycle
    try:
        references = sys.getrefcount(data)
        assert is_rejected(gateway.services.acceptor, data)
        assert gateway.services.acceptor.accept([Upload(data, BULK), Upload(IMAGE, BULK)])[0].error
        assert sys.getrefcount(data) == references
    finally:
        gc.enable()


def is_rejected(acceptor: Acceptor, data: bytes) -> bool:
    try:
        acceptor.submit(Upload(data, INTERACTIVE))
    except NotAnImageError:
        return True
    return False


def test_concurrent_uploads_share_writes_of_limited_size(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(batch_size="4")
    stored, proceed = threading.Event(), threading.Event()

    def block(_: list[str]) -> None:
        stored.set()
        assert proceed.wait(30)

    gateway.ledger.on_new_jobs = block
    uploads = [WatchedUpload(IMAGE, BULK if n % 3 == 0 else INTERACTIVE) for n in range(9)]
    threads, errors = submit_all(gateway.services.acceptor, uploads)
    assert stored.wait(30)
    wait_until(lambda: all(upload.is_checked for upload in uploads), "all uploads to arrive", 30)
    proceed.set()
    join(threads)
    assert not errors
    queue_of = {upload.job_id: upload.queue for upload in uploads}
    assert sorted(job_id for _, ids in gateway.new_jobs for job_id in ids) == sorted(queue_of)
    assert len(gateway.new_jobs) < len(uploads)
    assert all(len(ids) <= 4 for _, ids in gateway.new_jobs)
    assert all(queue_of[job_id] == queue for queue, ids in gateway.new_jobs for job_id in ids)


def test_a_list_of_uploads_is_recorded_in_one_call_without_its_invalid_images(
    gateway: Gateway,
) -> None:
    calls: list[int] = []
    gateway.ledger.hooks["submit"] = lambda: calls.append(1)
    uploads = [Upload(data, BULK) for data in (IMAGE, b"not an image", IMAGE)]
    first, second, third = gateway.services.acceptor.accept(uploads)
    assert isinstance(second.error, NotAnImageError)
    assert gateway.new_jobs == [(BULK, [first.job_id, third.job_id])]
    assert (len(calls), gateway.image_count()) == (1, 2)


def test_a_full_queue_refuses_only_its_own_uploads(make_gateway: MakeGateway) -> None:
    acceptor = make_gateway(queue_max_jobs="1").services.acceptor
    acceptor.submit(Upload(IMAGE, INTERACTIVE))
    with pytest.raises(QueueFullError) as refusal:
        acceptor.submit(Upload(IMAGE, INTERACTIVE))
    assert refusal.value.retry_after_s
    acceptor.submit(Upload(IMAGE, BULK))


def test_an_id_that_belongs_to_another_image_is_a_conflict(gateway: Gateway) -> None:
    job_id = new_job_id()
    gateway.services.acceptor.submit(Upload(IMAGE, INTERACTIVE, job_id=job_id))
    with pytest.raises(ConflictError):
        gateway.services.acceptor.submit(Upload(IMAGE, INTERACTIVE, job_id=job_id))
    assert gateway.image_count() == 1


def test_uploads_that_arrive_during_an_outage_fail_together(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(batch_size="4")
    calls: list[int] = []
    proceed = threading.Event()

    def fail_late() -> None:
        calls.append(1)
        assert proceed.wait(30)
        raise UnavailableError("The ledger does not respond. Try again later.")

    gateway.ledger.hooks["submit"] = fail_late
    uploads = [WatchedUpload(IMAGE, INTERACTIVE) for _ in range(12)]
    threads, errors = submit_all(gateway.services.acceptor, uploads)
    wait_until(lambda: all(upload.is_checked for upload in uploads), "all uploads to arrive", 30)
    proceed.set()
    join(threads)
    assert len(errors) == len(uploads)
    assert len(calls) < 4  # if they did not fail together, there would be 4 groups: 1, 4, 4 and 3


def test_uploads_are_accepted_after_an_unexpected_error(gateway: Gateway) -> None:
    gateway.ledger.hooks["submit"] = fail_with(RuntimeError("unexpected"))
    with pytest.raises(RuntimeError):
        gateway.services.acceptor.submit(Upload(IMAGE, INTERACTIVE))
    gateway.ledger.hooks.clear()
    gateway.services.acceptor.submit(Upload(IMAGE, INTERACTIVE))


def test_closed_services_leave_no_thread(make_gateway: MakeGateway) -> None:
    before = set(threading.enumerate())
    gateway = make_gateway()
    assert set(threading.enumerate()) - before
    gateway.services.close()
    assert not set(threading.enumerate()) - before
