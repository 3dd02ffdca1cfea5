"""Creates the parts of a gateway process and connects them."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import redis
from flask import current_app

from contract.access import Access, KeyStore
from contract.destinations import Destinations
from contract.images.store import ImageStore, open_image_store
from contract.ledger.connection import connect
from contract.ledger.ledger import Ledger
from contract.purge import Purger
from contract.rates import RateLimits
from contract.settings import Settings, variable_of
from contract.tracing import Tracer
from contract.web.turns import off_loop
from gateway.accept.acceptor import Acceptor
from gateway.accept.admission import Admission
from gateway.accept.dead_letters import DeadLetters
from gateway.accept.model_names import ModelNames
from gateway.accept.own_ids import OwnIds
from gateway.accept.spool import Spool
from gateway.accept.submissions import Submissions
from gateway.metrics import GatewayMetrics
from gateway.results.events import Events
from gateway.results.waiters import Waiters


@dataclass(frozen=True)
class Services:
    """The parts that the routes use."""

    settings: Settings
    ledger: Ledger
    images: ImageStore
    access: Access
    rates: RateLimits
    admission: Admission
    waiters: Waiters
    events: Events
    acceptor: Acceptor
    submissions: Submissions
    dead_letters: DeadLetters
    own_ids: OwnIds
    models: ModelNames
    spool: Spool
    purger: Purger
    metrics: GatewayMetrics
    destinations: Destinations
    #: None unless traces are exported.
    tracer: Tracer | None
    client: "redis.Redis"

    def start(self) -> None:
        """Start the threads; call it after the process has forked."""
        self.acceptor.start()
        self.waiters.start()
        self.events.start()
        self.admission.start()

    def end_waits(self) -> None:
        """Respond to all requests that wait, and end all event streams, because the gateway stops."""
        self.events.end_streams()
        self.waiters.end_waits()

    def close(self) -> None:
        """Stop the threads and close the connections to Redis."""
        self.admission.stop()
        self.acceptor.stop()
        self.events.stop()
        self.waiters.stop(self.client.connection_pool.disconnect)
        self.client.close()
        if self.tracer:
            self.tracer.close()


def build_services(
    settings: Settings,
    *,
    client: "redis.Redis | None" = None,
    ledger: Ledger | None = None,
    images: ImageStore | None = None,
    tracer: Tracer | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Services:
    """Create and start the parts of a gateway. An argument replaces the default part; a `ledger` must use `client`."""
    client = client or connect(settings.redis_address())
    ledger = ledger or Ledger(client)
    images = images or open_image_store(
        settings.image_store_address(), settings.image_ttl_s, sync=settings.image_fsync == "always", run=off_loop
    )
    admission = Admission(ledger, settings.ledger_max_bytes, clock)
    events = Events(ledger, settings.events_max_streams, settings.events_max_s, clock)
    waiters = Waiters(ledger, events.note)
    acceptor = Acceptor(settings, ledger, images, admission, waiters, tracer)
    purger = Purger(ledger, images, settings.result_ttl_s)
    own_ids, models = OwnIds(ledger), ModelNames(ledger.models, clock)
    services = Services(
        settings=settings,
        ledger=ledger,
        images=images,
        access=Access(KeyStore(client), required=settings.access_is_required()),
        rates=RateLimits(client, settings.rate_limit),
        admission=admission,
        waiters=waiters,
        events=events,
        acceptor=acceptor,
        submissions=Submissions(
            ledger, acceptor, waiters, purger, own_ids, models, settings.submissions_max_open, settings.result_ttl_s
        ),
        dead_letters=DeadLetters(ledger, acceptor, purger, own_ids),
        own_ids=own_ids,
        models=models,
        spool=Spool(settings.state_dir / "spool", settings.spool_max_bytes),
        purger=purger,
        metrics=GatewayMetrics(
            ledger, settings.ledger_max_bytes, settings.accuracy_target, count_streams=lambda: events.count
        ),
        destinations=Destinations(settings.allowed_webhooks(), variable_of("webhook_allow")),
        tracer=tracer,
        client=client,
    )
    services.start()
    return services


def current_services() -> Services:
    """The services of the application that handles the current request."""
    services: Services = current_app.config["SERVICES"]
    return services
