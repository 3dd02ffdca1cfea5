"""The wiring of one gateway process, the only place where its parts are put together."""

from dataclasses import dataclass
from functools import partial

from contract.access import Access, KeyStore
from contract.broker import MESSAGE_MAX_JOBS, make_celery, publish
from contract.images.store import open_image_store
from contract.ledger.connection import connect
from contract.ledger.ledger import Ledger
from contract.ledger.types import QueueLimits
from contract.settings import Settings
from gateway.committer import GroupCommitter
from gateway.dead import DeadLetters
from gateway.guard import Guard
from gateway.intake import Intake
from gateway.load import LoadMeter
from gateway.metrics import GatewayMetrics
from gateway.submissions import Submissions
from gateway.submit import Submitter
from gateway.uploads import UploadLimits
from gateway.waiters import Waiters

#: A message is sent at once or not: its jobs are in the ledger already, and whoever sent them waits for the answer.
_PUBLISH_TIMEOUT_S = 0.9


@dataclass(frozen=True)
class Services:
    """What routes work with."""

    settings: Settings
    ledger: Ledger
    submitter: Submitter
    waiters: Waiters
    load: LoadMeter
    dead: DeadLetters
    metrics: GatewayMetrics
    guard: Guard
    submissions: Submissions
    intake: Intake


def build_services(settings: Settings) -> Services:
    """Put the parts together and start their threads; call it after the process has forked."""
    client = connect(settings.redis_address())
    ledger = Ledger(client)
    access = Access(KeyStore(client), required=settings.access_is_required())
    load = LoadMeter(ledger, settings.ledger_max_bytes)
    send = partial(publish, make_celery(settings.redis_address(), _PUBLISH_TIMEOUT_S))
    queue_limits = QueueLimits(settings.queue_max_jobs, settings.queue_max_bytes, settings.queue_share)
    committer = GroupCommitter(ledger, send, load, queue_limits, min(settings.batch_size, MESSAGE_MAX_JOBS))
    waiters = Waiters(ledger)
    images = open_image_store(settings.image_store_address(), settings.image_ttl_s)
    limits = UploadLimits(settings.upload_max_bytes, settings.upload_max_pixels)
    committer.start()
    waiters.start()
    load.start()
    submitter = Submitter(images, committer, waiters, load, limits)
    guard = Guard(access, settings.redis_address(), settings.rate_limit)
    dead = DeadLetters(ledger, committer)
    return Services(
        settings,
        ledger,
        submitter,
        waiters,
        load,
        dead,
        GatewayMetrics(ledger, settings.ledger_max_bytes),
        guard,
        Submissions(ledger, waiters, settings.result_ttl_s),
        Intake(images, ledger, send, load, queue_limits, limits, settings.result_ttl_s),
    )
