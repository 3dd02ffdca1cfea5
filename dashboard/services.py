"""The services that pages and routes use, built from the settings."""

from dataclasses import dataclass, field

from contract.access import Access, KeyStore
from contract.images.thumbnails import ThumbnailStore
from contract.ledger.connection import connect
from contract.ledger.ledger import Ledger
from contract.origin import OriginCheck
from contract.rates import RateLimits
from contract.settings import Settings
from dashboard.data.cache import SnapshotCache
from dashboard.data.gateway import GatewayClient
from dashboard.data.models import BundleReader, MlflowReader
from dashboard.data.prometheus import PrometheusSource
from dashboard.data.reader import MetricsSource, Reader
from dashboard.data.scrape import ScrapeSource


@dataclass(frozen=True)
class Services:
    """Everything that pages and routes need beyond the request."""

    reader: Reader
    gateway: GatewayClient
    access: Access
    rates: RateLimits
    origins: OriginCheck
    refresh_s: float
    #: Whether the gateway requires API keys. If not, it shows and allows everything, and the dashboard must not.
    gateway_requires_keys: bool = False
    #: Whether the cookie is `Secure` even if the request does not seem to have arrived over HTTPS.
    secure_cookie: bool = False
    cache: SnapshotCache = field(default_factory=SnapshotCache)


def build_services(settings: Settings) -> Services:
    """Build the services. The caller starts the reader."""
    client = connect(settings.redis_address())
    gateway = GatewayClient(settings.gateway_address())
    mlflow_uri = settings.mlflow_tracking_uri.get_secret_value() if settings.mlflow_tracking_uri else ""
    reader = Reader(
        ledger=Ledger(client),
        ledger_max_bytes=settings.ledger_max_bytes,
        thumbnails=ThumbnailStore(client, settings.thumbnail_ttl_s),
        metrics=_metrics_source(settings),
        gateway=gateway,
        bundle=BundleReader(settings),
        mlflow=MlflowReader(mlflow_uri) if mlflow_uri.startswith(("http://", "https://")) else None,
        period_s=settings.dashboard_refresh_s,
    )
    access = Access(KeyStore(client), required=settings.dashboard_access_is_required())
    # With API keys, a page under a foreign host name has no session. Its cookies are those of that name.
    origins = OriginCheck(None if access.required else settings.host_names(settings.dashboard_host))
    return Services(
        reader,
        gateway,
        access,
        RateLimits(client, settings.rate_limit),
        origins,
        settings.dashboard_refresh_s,
        gateway_requires_keys=settings.access_is_required(),
        secure_cookie=settings.dashboard_cookie == "https-only",
    )


def _metrics_source(settings: Settings) -> MetricsSource:
    if settings.prometheus_url:
        return PrometheusSource(settings.prometheus_url.get_secret_value())
    return ScrapeSource(settings.gateway_metrics_address())
