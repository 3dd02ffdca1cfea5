"""The settings of all services: one typed table, read once from the environment.

`python -m contract.settings` prints the table as `docs/settings.md`.
"""

import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator

from contract.destinations import Allowed, parse_allowed
from contract.fetch import FetchRules, parse_fetch_rules
from contract.proxy import Network, is_prefix, parse_networks

#: The prefix of every environment variable.
PREFIX = "PAWQUEUE_"
#: A variable of version 0.1. On its own it selected a service, so ignoring it could select a different one.
OLD_REDIS_PORT = f"{PREFIX}REDIS_PORT"
#: A rate limit, such as `100 per minute`.
RATE_PATTERN = r"^[1-9][0-9]{0,8} ?(/|per) ?([1-9][0-9]{0,3} ?)?(second|minute|hour|day)s?$"
#: The name of a model.
MODEL_NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"
#: URLs that both Celery and redis-py accept. redis-py alone would silently ignore an invalid database number.
_REDIS_URL = re.compile(
    r"rediss?://([^@/?#]*@)?([\w.-]+|\[[0-9a-fA-F:.]+\])?(:\d{1,5})?(/\d*)?(\?ssl_\w+=[^&#]*(&ssl_\w+=[^&#]*)*)?"
)
#: An origin, or `*` for all. Flask-CORS would take anything else for a regular expression.
_ORIGIN = re.compile(r"\*|https?://[^\s/?#@*\\]+")
_HOST_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
#: First parts of the paths that a service has itself. As a prefix, they would make a path ambiguous.
_OWN_PATHS = {
    "gateway_prefix": {
        *("v1", "v2", "predict", "health", "healthz", "readyz", "metrics", "docs", "redoc", "openapi.json"),
    },
    "dashboard_prefix": {
        *("predictions", "predictions.csv", "try", "models", "review", "drift", "capacity"),
        *("thumbnails", "assets", "healthz", "sign-in", "sign-out"),
    },
}


class SettingsError(Exception):
    """A setting has an invalid value; the message names the variable, the value and what is expected."""


def _setting(default: Any, description: str, unit: str = "", **limits: Any) -> Any:
    return Field(default, description=description, json_schema_extra={"unit": unit}, **limits)


class Settings(BaseModel):
    """All settings: name, type, default, description and unit."""

    model_config = ConfigDict(frozen=True)

    gateway_host: str = _setting("127.0.0.1", "Address on which the gateway listens.")
    gateway_port: int = _setting(8000, "Port on which the gateway listens.", ge=1, le=65535)
    gateway_metrics_host: str = _setting("127.0.0.1", "Address on which the gateway serves metrics.")
    gateway_metrics_port: int = _setting(
        9100,
        "Port on which the gateway serves metrics; each additional gateway on a machine needs another one, or 0 for "
        "any free port. The dashboard reads it at the host of `PAWQUEUE_GATEWAY_URL`.",
        ge=0,
        le=65535,
    )
    dashboard_host: str = _setting("127.0.0.1", "Address on which the dashboard listens.")
    dashboard_port: int = _setting(8050, "Port on which the dashboard listens.", ge=1, le=65535)
    gateway_prefix: str = _setting(
        "",
        "Path under which a reverse proxy publishes the gateway, for example `/paw`. The proxy may remove it from "
        "requests or leave it there. Empty: none, or the one that a trusted proxy sends.",
    )
    dashboard_prefix: str = _setting(
        "",
        "The same for the dashboard, for example `/board`.",
    )
    trusted_proxies: str = _setting(
        "",
        "Addresses and networks of reverse proxies, separated by commas, for example `127.0.0.1, 10.0.0.0/8`. Gateway "
        "and dashboard accept `X-Forwarded-Prefix`, `X-Forwarded-Proto`, `X-Forwarded-Host` and `X-Forwarded-For` only "
        "from them. Empty: from nobody.",
    )
    allowed_hosts: str = _setting(
        "",
        "Host names, separated by commas, under which gateway and dashboard are used while they require no API keys, "
        "for example `paw.lan`. Requests for other names get 403. `localhost`, IP addresses, and the name on which the "
        "service listens are always allowed.",
    )
    connections_per_address: int = _setting(
        2000,
        "Maximum number of connections from one address to the gateway or the dashboard, and of requests in progress "
        "for one client of a trusted proxy. Beyond it, idle connections are closed and requests get 503. Health checks "
        "are always answered.",
        "connections",
        ge=1,
        le=4000,
    )
    bodies_max_bytes: int = _setting(
        200_000_000,
        "Maximum memory of the gateway, and of the dashboard, for request bodies that are being received. One API key, "
        "or one address without a key, may use half of it. Further uploads wait a short time and then get 503. At "
        "least four times the largest body.",
        "bytes",
        ge=1,
    )
    redis_appendfsync: Literal["always", "everysec"] = _setting(
        "always",
        "How often writes are synced to disk in the Redis that `make up` starts: before each reply, or once per "
        "second, which is faster but may lose the last second of writes if Redis crashes. With `everysec`, services do "
        "not warn if the Redis at `PAWQUEUE_REDIS_URL` does the same.",
    )
    redis_url: SecretStr | None = _setting(
        None,
        "URL of the Redis for the ledger and the queues. Unset: the Redis that `make up` starts, which listens on a "
        "socket in the state folder.",
    )
    image_store_url: SecretStr | None = _setting(
        None,
        "Where uploaded images are stored until they are processed: a folder, a `redis://` URL, or any fsspec URL. "
        "Unset: the folder `images` in the state folder.",
    )
    image_fsync: Literal["always", "never"] = _setting(
        "always",
        "Whether the gateway syncs uploaded images to disk before it responds: once for each group of images, or not "
        "at all, which is faster but may lose the images of queued jobs in a power failure. Applies only to a folder.",
    )
    state_dir: Path = _setting(
        Path("state"),
        "Folder for all data that must survive a restart. `make up` denies other users access to it.",
    )
    workers: int = _setting(1, "Number of workers that `make up` and `make demo` start.", ge=1, le=64)
    worker_cores: int | None = _setting(
        None,
        "Number of CPU cores that a worker's model uses. Unset: all available cores, which `make up` divides among its "
        "workers.",
        "cores",
        ge=1,
        le=1024,
    )
    worker_metrics_host: str = _setting("127.0.0.1", "Address on which workers serve metrics and health checks.")
    worker_metrics_port: int = _setting(
        9101,
        "Port on which the first worker serves metrics and health checks; each additional worker uses the next port.",
        ge=0,
        le=65535,
    )
    model: Path | None = _setting(
        None, "Folder of the bundle to serve. Unset: the promoted bundle if there is one, else the included one."
    )
    model_store_url: SecretStr | None = _setting(
        None,
        "Where the versions of models are stored, at `NAME/VERSION`: a folder, or any fsspec URL, from which workers "
        "copy what they serve. Unset: the folder `models` in the state folder.",
    )
    trust_bundle_code: bool = _setting(
        False,  # noqa: FBT003 - the default
        "Whether workers also serve a bundle whose graph contains operations that may do more than compute, such as "
        "read files. `pawqueue models import --trust-code` makes such bundles.",
    )
    model_checksum: str | None = _setting(
        None,
        "Checksum of the bundle to serve, which `pawqueue models promote` prints: a worker loads no other bundle. "
        "Unset: not checked.",
        pattern=r"^[0-9a-f]{64}$",
    )
    default_model: str | None = _setting(
        None,
        "Name of the model that processes jobs that name none. Unset: the model of the bundle in `PAWQUEUE_MODEL`, "
        "else of the promoted bundle, else of the included one.",
        pattern=MODEL_NAME_PATTERN,
    )
    serve: str = _setting(
        "*",
        "Names of the models whose jobs a worker takes, separated by commas. `*`: the default model and all models in "
        "the model store.",
    )
    model_memory_bytes: int | None = _setting(
        None,
        "Maximum memory of the models that a worker keeps loaded, estimated from the memory that loading them took. "
        "Beyond it, the least recently used one is unloaded, and loaded again when a job needs it. Unset: no limit.",
        "bytes",
        ge=1,
    )
    promote_limit_s: float = _setting(
        120.0,
        "How long workers may take to load a version that is to become live. After this time the change is taken back.",
        "s",
        gt=0,
    )
    rollback_keep_s: float = _setting(
        600.0,
        "A version that is no longer live stays loaded for this time after its last batch, so that a rollback takes "
        "effect at once.",
        "s",
        ge=0,
    )
    precision: Literal["auto", "float32", "bfloat16"] = _setting(
        "auto",
        "Number format in which the model computes. `auto`: bfloat16 if the CPU supports it, the model reproduces its "
        "golden outputs with it, and it is faster when the worker measures both; else float32.",
    )
    measure_s: float = _setting(
        2.0,
        "How long a worker measures which strategy runs a bundle fastest, when it loads the bundle on a processor for "
        "the first time. It remembers the result in the folder `strategies` of the state folder. 0: it does not "
        "measure, and uses what it remembers, or else float32 and parts of 8 images.",
        "s",
        ge=0,
        le=60,
    )
    backend: Literal["tensorflow", "jax", "torch"] = _setting(
        "tensorflow", "Keras backend. Install `jax`, `torch` or GPU support separately."
    )
    batch_size: int = _setting(32, "Maximum number of images in a batch.", "images", ge=1, le=1024)
    batch_wait_ms: float = _setting(
        5.0, "Maximum time that a decoded image waits for more images to fill its batch.", "ms", ge=0, le=10_000
    )
    decode_threads: int = _setting(
        2, "Number of decoding threads in a worker, and of processes that decode costly images.", "threads", ge=1, le=64
    )
    lease_s: float = _setting(
        10.0,
        "How long a worker's lease on a job lasts if it is not renewed. After that, another worker may claim the job.",
        "s",
        gt=0,
        le=3600,
    )
    drain_s: float = _setting(
        30.0, "Maximum time that a worker takes to finish its jobs on shutdown.", "s", ge=0, le=3600
    )
    sweep_s: float = _setting(2.0, "Interval between searches for lost jobs.", "s", gt=0, le=600)
    max_attempts: int = _setting(
        3, "Maximum number of attempts for an image that crashes its worker.", "attempts", ge=1, le=100
    )
    predict_limit_s: float = _setting(
        60.0, "Maximum duration of a model call. A worker that exceeds it exits and is restarted.", "s", gt=0
    )
    decode_limit_s: float = _setting(
        30.0, "Maximum time to decode an image. The job fails if it takes longer.", "s", gt=0
    )
    result_ttl_s: int = _setting(86_400, "How long finished jobs are kept.", "s", ge=1)
    image_ttl_s: int = _setting(
        86_400,
        "Maximum time that an uploaded image is kept, even if its job is not finished. Not enforced at an fsspec URL: "
        "set an expiry rule in that storage.",
        "s",
        ge=1,
    )
    upload_max_bytes: int = _setting(20_000_000, "Maximum size of an image.", "bytes", ge=1)
    upload_max_pixels: int = _setting(50_000_000, "Maximum number of pixels in an image.", "pixels", ge=1)
    bulk_max_bytes: int = _setting(
        2_000_000_000,
        "Maximum size of a form, tar or zip with many images, both before and after unpacking.",
        "bytes",
        ge=1,
    )
    spool_max_bytes: int = _setting(
        4_000_000_000,
        "Maximum size of the zips that a gateway keeps in the folder `spool` of the state folder while it reads them. "
        "One API key may use half of it. Further zips get 503.",
        "bytes",
        ge=1,
    )
    queue_max_jobs: int = _setting(
        1_000_000, "Maximum number of jobs waiting in a queue. Further uploads get 429.", "jobs", ge=1
    )
    queue_max_bytes: int = _setting(
        20_000_000_000, "Maximum total size of the images waiting in a queue. Further uploads get 429.", "bytes", ge=1
    )
    ledger_max_bytes: int = _setting(
        2_000_000_000, "Maximum memory used by the ledger's Redis. Further uploads get 503.", "bytes", ge=1
    )
    queue_share: float = _setting(
        0.5, "Maximum share of a queue that one API key may fill. Further uploads get 429.", gt=0, le=1
    )
    submissions_max_open: int = _setting(
        10_000,
        "Maximum number of open submissions per API key, including closed ones without images. Opening another one "
        "gets 429. A submission without images expires after an hour.",
        "submissions",
        ge=1,
    )
    access: Literal["auto", "required", "open-to-everyone"] = _setting(
        "auto",
        "Whether requests require an API key. `auto`: required if the gateway listens on an address that other "
        "machines can reach.",
    )
    metrics_access: Literal["open", "key"] = _setting(
        "open",
        "Access to `GET /v1/status`. `open`: public. `key`: an API key with the scope `read`, if requests require API "
        "keys.",
    )
    rate_limit: str = _setting(
        "60000 per minute",
        "Request limit for API keys without their own limit, for example `100 per minute`.",
        pattern=RATE_PATTERN,
    )
    cors_origins: str = _setting(
        "",
        "Origins, separated by commas, whose pages may call the gateway from a browser, for example "
        "`https://example.org`. `*`: all. Empty: none.",
    )
    wait_max_s: float = _setting(60.0, "Maximum time that a request with `Prefer: wait` waits.", "s", ge=0, le=3600)
    events_max_streams: int = _setting(
        2000,
        "Maximum number of event streams of a gateway. One API key, or one address without a key, may have half of "
        "them. Further ones get 503.",
        "streams",
        ge=1,
        le=4000,
    )
    events_max_s: float = _setting(
        600.0,
        "Maximum duration of an event stream. Its client then reconnects and misses nothing; the API key is checked "
        "again.",
        "s",
        gt=0,
        le=86_400,
    )
    predict_wait_s: float = _setting(
        30.0,
        "Maximum time that `POST /predict` and the requests of TensorFlow Serving and of the Open Inference Protocol "
        "wait for their results.",
        "s",
        gt=0,
        le=3600,
    )
    dashboard_refresh_s: float = _setting(
        5.0, "Interval at which the dashboard reads its data and refreshes its pages.", "s", ge=0.2, le=600
    )
    dashboard_cookie: Literal["auto", "https-only"] = _setting(
        "auto",
        "Whether browsers may send the dashboard's cookie over plain HTTP. `auto`: unless they signed in over HTTPS, "
        "which a proxy in `PAWQUEUE_TRUSTED_PROXIES` reports. `https-only`: never.",
    )
    gateway_url: str | None = _setting(
        None,
        "URL at which the dashboard reaches the gateway. Unset: the gateway's port on this machine.",
        pattern=r"^https?://[^\s/?#@]+(/[^\s?#@]*)?$",
    )
    prometheus_url: SecretStr | None = _setting(
        None,
        "URL of the Prometheus server that the dashboard reads from. Unset: it scrapes the gateway and workers.",
    )
    accuracy_target: float = _setting(
        0.0,
        "Accuracy that the live version of each model should have by the feedback of the last 7 days, 0 to 1. If the "
        "whole 95 % interval is below it, the alert `PawqueueAccuracyLow` fires. 0: no alert.",
        ge=0,
        lt=1,
    )
    review_below: float = _setting(
        0.0,
        "Workers keep the images of results whose confidence is below this value, 0 to 1, which have the warning "
        "`unfamiliar_image`, or with which a shadow disagrees, so that people review them. 0: they keep none.",
        ge=0,
        le=1,
    )
    review_ttl_s: int = _setting(
        604_800,
        "How long images are kept for review. If images are stored at an fsspec URL, the expiry rule of that storage "
        "must not apply to its folder `review` earlier.",
        "s",
        ge=1,
    )
    review_max_images: int = _setting(
        1000,
        "Maximum number of images kept for review. Beyond it, the oldest ones without a label are removed first.",
        "images",
        ge=1,
        le=100_000,
    )
    review_max_bytes: int = _setting(
        500_000_000, "Maximum total size of the images kept for review. Beyond it, the same applies.", "bytes", ge=1
    )
    fetch_allow: str = _setting(
        "",
        "From where images may be fetched whose address is sent instead of the image, separated by commas: hosts, such "
        "as `images.example.com` or `*.example.org`, and buckets, such as `s3://photos/2026`. Addresses that are not "
        "public are refused unless their network is listed too, such as `10.1.0.0/16`. Set it for gateways and "
        "workers. Empty: no images are fetched.",
    )
    fetch_threads: int = _setting(8, "How many images a worker fetches at the same time.", "threads", ge=1, le=64)
    fetch_timeout_s: float = _setting(
        20.0, "Maximum time to fetch an image, including redirects. Failed tries are repeated twice.", "s", gt=0, le=300
    )
    thumbnails_per_s: float = _setting(
        2.0,
        "Maximum rate at which a worker stores thumbnails for the dashboard. 0 disables them.",
        "thumbnails/s",
        ge=0,
        le=100,
    )
    thumbnail_pixels: int = _setting(128, "Length of a thumbnail's longer side.", "pixels", ge=16, le=256)
    thumbnail_ttl_s: int = _setting(3600, "How long thumbnails are kept.", "s", ge=1)
    mlflow_tracking_uri: SecretStr | None = _setting(
        None, "URL of the MLflow server that records training runs, with a login if it has one. Unset: a local file."
    )
    webhook_allow: str = _setting(
        "",
        "Hosts, addresses and networks to which webhooks may be sent although they are not public, separated by "
        "commas, for example `hooks.lan, 10.1.0.0/16, 127.0.0.1:9000`. With a port, only that one. Set it for the "
        "gateway and the notifier.",
    )
    webhook_retries_s: str = _setting(
        "5, 300, 1800, 7200, 18000, 36000, 36000",
        "Pauses between the tries to deliver an event to a webhook, separated by commas. Each is extended at random by "
        "up to a fifth. After the last try the delivery is dead.",
        "s",
    )
    webhook_dead_ttl_s: int = _setting(
        604_800, "How long dead deliveries of webhooks are kept.", "s", ge=1, le=2_592_000
    )
    notifier_metrics_host: str = _setting(
        "127.0.0.1", "Address on which the notifier serves metrics and health checks."
    )
    notifier_metrics_port: int = _setting(
        9099,
        "Port on which the notifier serves metrics and health checks; each additional notifier on a machine needs "
        "another one, or 0 for any free port.",
        ge=0,
        le=65535,
    )
    log_level: Literal["debug", "info", "warning", "error"] = _setting("info", "Minimum level of log messages.")

    @field_validator("redis_url")
    @classmethod
    def _is_redis_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _REDIS_URL.fullmatch(value.get_secret_value()):
            raise ValueError(
                "must be redis://[:PASSWORD@]HOST:PORT/NUMBER, or rediss:// for TLS with optional ?ssl_... parameters"
            )
        return value

    @field_validator("gateway_prefix", "dashboard_prefix")
    @classmethod
    def _is_prefix(cls, value: str, info: ValidationInfo) -> str:
        prefix = value.rstrip("/")
        if prefix and not is_prefix(prefix):
            raise ValueError("must be a path such as /paw, with letters, digits and the characters . _ ~ -")
        first = prefix[1:].partition("/")[0]
        if first in _OWN_PATHS[str(info.field_name)]:
            raise ValueError(f"must not start with /{first}, which is a path of the service itself. Choose another one")
        return prefix

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        try:
            parse_networks(value)
        except ValueError as error:
            raise ValueError(f"must be IP addresses and networks, separated by commas ({error})") from None
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _are_host_names(cls, value: str) -> str:
        for name in _items(value):
            if not _HOST_NAME.fullmatch(name):
                raise ValueError(f"must be host names without scheme, port and path, separated by commas ({name!r})")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: str) -> str:
        for origin in _items(value):
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"must be origins such as https://example.org, separated by commas ({origin!r})")
        return value

    @field_validator("serve")
    @classmethod
    def _are_model_names(cls, value: str) -> str:
        for name in _items(value):
            if name != "*" and not re.match(MODEL_NAME_PATTERN, name):
                raise ValueError(f"must be `*` or names of models, separated by commas ({name!r})")
        return value

    @field_validator("webhook_allow")
    @classmethod
    def _are_destinations(cls, value: str) -> str:
        try:
            parse_allowed(value)
        except ValueError as error:
            raise ValueError(f"must be hosts, addresses and networks, separated by commas ({error})") from None
        return value

    @field_validator("webhook_retries_s")
    @classmethod
    def _are_pauses(cls, value: str) -> str:
        for item in _items(value):
            if not re.fullmatch(r"\d{1,6}(\.\d{1,3})?", item, re.ASCII):
                raise ValueError(f"must be numbers of seconds, separated by commas ({item!r})")
        return value

    def allowed_webhooks(self) -> tuple[Allowed, ...]:
        """The destinations to which webhooks may be sent although they are not public."""
        return parse_allowed(self.webhook_allow)

    def webhook_pauses_s(self) -> list[float]:
        """The pauses between the tries to deliver an event."""
        return [float(item) for item in _items(self.webhook_retries_s)]

    @field_validator("fetch_allow")
    @classmethod
    def _are_fetch_rules(cls, value: str) -> str:
        try:
            parse_fetch_rules(value)
        except ValueError as error:
            raise ValueError(f"must be hosts, buckets and networks, separated by commas ({error})") from None
        return value

    def fetch_rules(self) -> FetchRules:
        """From where images may be fetched."""
        return parse_fetch_rules(self.fetch_allow)

    def served_models(self) -> frozenset[str] | None:
        """The names of the models whose jobs a worker takes; None for all."""
        names = frozenset(_items(self.serve))
        return None if "*" in names or not names else names

    def access_is_required(self) -> bool:
        """Whether requests to the gateway require an API key."""
        return self.access == "required" or (self.access == "auto" and not self.is_local())

    def dashboard_access_is_required(self) -> bool:
        """Whether the dashboard requires an API key: if the gateway does, or if other machines can reach it."""
        is_reachable = self.access == "auto" and not _is_loopback(self.dashboard_host)
        return self.access_is_required() or is_reachable

    def trusted_networks(self) -> tuple[Network, ...]:
        """The networks of the trusted proxies."""
        return parse_networks(self.trusted_proxies)

    def host_names(self, own: str) -> list[str]:
        """The host names of a service that listens on `own`."""
        return [own, *_items(self.allowed_hosts)]

    def allowed_origins(self) -> list[str]:
        """The origins whose pages may call the gateway."""
        return _items(self.cors_origins)

    def is_local(self) -> bool:
        """Whether only this machine can reach the gateway."""
        return _is_loopback(self.gateway_host)

    def gateway_address(self) -> str:
        """URL at which the dashboard reaches the gateway, without a trailing slash."""
        if self.gateway_url:
            return self.gateway_url.rstrip("/")
        return f"http://{_reachable(self.gateway_host)}:{self.gateway_port}"

    def gateway_metrics_address(self) -> str:
        """URL at which the dashboard reads the gateway's metrics."""
        host = urlsplit(self.gateway_url or "").hostname or self.gateway_metrics_host
        return f"http://{_reachable(host)}:{self.gateway_metrics_port}/metrics"

    def redis_address(self) -> str:
        """URL of the ledger's Redis, including its password."""
        return self.redis_url.get_secret_value() if self.redis_url else f"unix://{quote(str(self.redis_socket()))}"

    def redis_socket(self) -> Path:
        """The socket of the Redis that `make up` starts."""
        return self.state_dir.absolute() / "run" / "redis"

    def image_store_address(self) -> str:
        """Folder or URL of the image store."""
        return self.image_store_url.get_secret_value() if self.image_store_url else str(self.state_dir / "images")

    def model_store_address(self) -> str:
        """Folder or URL of the model store."""
        return self.model_store_url.get_secret_value() if self.model_store_url else str(self.state_dir / "models")


def _items(text: str) -> list[str]:
    """The items of a list separated by commas."""
    return [item for part in text.split(",") if (item := part.strip())]


def _reachable(host: str) -> str:
    """The address at which this machine reaches a service that listens on `host`, as it is written in a URL."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"[{host}]" if ":" in host else host


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings from `environ`; an empty variable counts as unset.

    A secret can also be read from a file: `PAWQUEUE_REDIS_URL_FILE=path`.

    Raises:
        SettingsError: a value is invalid or a file is unreadable. The message lists all invalid values.
    """
    given = {name: value for name in Settings.model_fields if (value := _read_variable(name, environ)) != ""}
    if environ.get(OLD_REDIS_PORT) and not {"redis_url", "state_dir"} & given.keys():
        raise SettingsError(
            f"{OLD_REDIS_PORT} no longer selects a Redis: the Redis of `make up` has a socket instead of a port. "
            f"Unset it, and set {variable_of('state_dir')} to the state folder of the service, if it is not the "
            "default."
        )
    try:
        settings = Settings.model_validate(given)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(problem) for problem in error.errors())) from None
    return settings.model_copy(update={"state_dir": settings.state_dir.absolute()})


def is_secret(name: str) -> bool:
    """Whether a setting is a secret: never printed, and readable from a file."""
    return "Secret" in str(Settings.model_fields[name].annotation)


def _read_variable(name: str, environ: Mapping[str, str]) -> str:
    variable = variable_of(name)
    value = environ.get(variable, "").strip()
    file = environ.get(f"{variable}_FILE", "").strip()
    if value or not file or not is_secret(name):
        return value
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise SettingsError(f"{variable}_FILE={file!r}: unreadable file: {reason}.") from None


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def _explain(problem: Any) -> str:
    name = str(problem["loc"][0])
    field = Settings.model_fields[name]
    value = "(hidden)" if is_secret(name) else repr(problem["input"])
    expected = problem["msg"].replace("Input should be", "must be").removeprefix("Value error, ")
    default = "unset" if field.default is None else field.default
    return f"{variable_of(name)}={value}: {expected}. {field.description} Default: {default}."


def usable_cores(cgroup_limit: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """The number of CPU cores available to this process, given its affinity and container limit (cgroup v2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no such file, or no limit ("max")
        quota_us, period_us = map(int, cgroup_limit.read_text().split())
        return max(1, min(cores, math.ceil(quota_us / period_us)))
    return cores


_PAGE_HEAD = """# Settings

Every setting is an environment variable, read once when a process starts. An empty variable counts as unset; an invalid
value stops the process with an error that names it. A secret can also be read from a file: set the variable with the
suffix `_FILE`, for example `PAWQUEUE_REDIS_URL_FILE=path`. `make docs` generates this page from the code.

| variable | type | default | unit | description |
|---|---|---|---|---|
"""


def settings_page() -> str:
    """The text of `docs/settings.md`."""
    return _PAGE_HEAD + "".join(_page_row(name, field) for name, field in Settings.model_fields.items())


def _page_row(name: str, field: Any) -> str:
    unit = field.json_schema_extra["unit"]
    default = "" if field.default in (None, "") else f"`{field.default}`"
    return f"| `{variable_of(name)}` | {_type_name(field.annotation)} | {default} | {unit} | {field.description} |\n"


def _type_name(kind: Any) -> str:
    if isinstance(kind, UnionType):
        return _type_name(next(part for part in get_args(kind) if part is not type(None)))
    if choices := get_args(kind):
        *others, last = (f"`{choice}`" for choice in choices)
        return f"{', '.join(others)} or {last}"
    return {
        "bool": "`true` or `false`",
        "str": "text",
        "int": "integer",
        "float": "number",
        "Path": "path",
        "SecretStr": "secret",
    }[kind.__name__]


if __name__ == "__main__":
    print(settings_page(), end="")
