"""The wiring of one dashboard process, the only place where its parts are put together."""

from dataclasses import dataclass, field

from contract.access import Access, KeyStore
from contract.images.thumbnails import ThumbnailStore
from contract.ledger.connection import connect
from contract.ledger.ledger import Ledger
from contract.settings import Settings
from dashboard.bundle_files import BundleReader
from dashboard.gateway_client import GatewayClient
from dashboard.mlflow_runs import MlflowReader
from dashboard.pages import Maker
from dashboard.reader import Reader
from dashboard.sources import NumberSource, PrometheusSource, ScrapeSource


@dataclass(frozen=True)
class Parts:
    """What routes and callbacks work with."""

    reader: Reader
    gateway: GatewayClient
    access: Access
    refresh_s: float
    maker: Maker = field(default_factory=Maker)


def build_parts(settings: Settings) -> Parts:
    """Put the parts together; nothing runs yet."""
    client = connect(settings.redis_address())
    gateway = GatewayClient(settings.gateway_address())
    tracking = settings.mlflow_tracking_uri or ""
    maker = Maker()
    reader = Reader(
        ledger=Ledger(client),
        thumbnails=ThumbnailStore(client, settings.thumbnail_ttl_s),
        numbers=_numbers(settings),
        gateway=gateway,
        bundle=BundleReader(settings),
        mlflow=MlflowReader(tracking) if tracking.startswith(("http://", "https://")) else None,
        period_s=settings.dashboard_refresh_s,
        prepare=maker.renew,
    )
    access = Access(KeyStore(client), required=settings.dashboard_access_is_required())
    return Parts(reader, gateway, access, settings.dashboard_refresh_s, maker)


def _numbers(settings: Settings) -> NumberSource:
    if settings.prometheus_url:
        return PrometheusSource(settings.prometheus_url.get_secret_value())
    api_key = settings.metrics_key.get_secret_value() if settings.metrics_key else ""
    return ScrapeSource(settings.gateway_address(), api_key=api_key)
