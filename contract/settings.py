"""Every setting of every service: one typed table, read once from the environment."""

import re
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

#: Every variable begins with it.
PREFIX = "PAWQUEUE_"
#: Of a rate limit.
RATE_PATTERN = r"^[1-9][0-9]{0,8} ?(/|per) ?([1-9][0-9]{0,3} ?)?(second|minute|hour|day)s?$"
#: What both Celery and redis-py take; the latter would pass over a database that is no number.
_REDIS_URL = re.compile(
    r"rediss?://([^@/?#]*@)?([\w.-]+|\[[0-9a-fA-F:.]+\])?(:\d{1,5})?(/\d*)?(\?ssl_\w+=[^&#]*(&ssl_\w+=[^&#]*)*)?"
)


class SettingsError(Exception):
    """A setting has a value that it cannot take; the text names variable, value and what is wanted."""


def _setting(default: Any, text: str, unit: str = "", **limits: Any) -> Any:
    return Field(default, description=text, json_schema_extra={"unit": unit}, **limits)


class Settings(BaseModel):
    """The table: name, type, default, help and unit. `docs/settings.md` is made from it."""

    model_config = ConfigDict(frozen=True)

    gateway_host: str = _setting("127.0.0.1", "Address that the gateway listens on.")
    gateway_port: int = _setting(8000, "Port that the gateway listens on.", ge=1, le=65535)
    dashboard_host: str = _setting("127.0.0.1", "Address that the dashboard listens on.")
    dashboard_port: int = _setting(8050, "Port that the dashboard listens on.", ge=1, le=65535)
    redis_port: int = _setting(6399, "Port of the Redis that `make up` and `make demo` start.", ge=1, le=65535)
    redis_appendfsync: Literal["always", "everysec"] = _setting(
        "always",
        "When that Redis puts what it was told on the disk: before it answers, or once a second, which is faster and "
        "may lose the last second when Redis is killed.",
    )
    redis_url: SecretStr | None = _setting(
        None, "Redis for ledger and queue; unset: one is started on `PAWQUEUE_REDIS_PORT` of this machine."
    )
    image_store_url: SecretStr | None = _setting(
        None, "Where images wait: a folder, `redis://`, or an fsspec address; unset: `images` in the state folder."
    )
    state_dir: Path = _setting(Path("state"), "Folder for all that outlives a restart on one machine.")
    workers: int = _setting(1, "Worker processes that `make up` and `make demo` start.", ge=1, le=64)
    worker_cores: int | None = _setting(
        None,
        "Cores on which a worker's model computes; unset: all that it may use, and `make up` shares them out among its "
        "workers.",
        "cores",
        ge=1,
        le=1024,
    )
    worker_metrics_host: str = _setting("127.0.0.1", "Address on which a worker's metrics are read.")
    worker_metrics_port: int = _setting(
        9101, "Port of the first worker's metrics; each further worker takes the next.", ge=0, le=65535
    )
    model: Path | None = _setting(
        None, "Folder of the bundle to serve; unset: the promoted one in the state folder, else the one shipped."
    )
    precision: Literal["auto", "float32", "bfloat16"] = _setting(
        "auto", "Arithmetic of the model; `auto`: bfloat16 where the processor has it and the golden outputs agree."
    )
    backend: Literal["tensorflow", "jax", "torch"] = _setting(
        "tensorflow", "What Keras runs on; `jax` and `torch` are to be installed beside it, as for a GPU."
    )
    batch_size: int = _setting(32, "Most images predicted in one call.", "images", ge=1, le=1024)
    batch_wait_ms: float = _setting(
        5.0, "Longest wait of a decoded image for others that are on their way.", "ms", ge=0, le=10_000
    )
    decode_threads: int = _setting(2, "Threads that decode images in a worker.", "threads", ge=1, le=64)
    lease_s: float = _setting(10.0, "How long a worker's claim on a job holds without renewal.", "s", gt=0, le=3600)
    drain_s: float = _setting(30.0, "Longest time a stopping worker spends on what it holds.", "s", ge=0, le=3600)
    sweep_s: float = _setting(2.0, "Pause between two looks for jobs that nobody works on.", "s", gt=0, le=600)
    max_attempts: int = _setting(3, "Times an image may be tried when workers die on it.", "attempts", ge=1, le=100)
    predict_limit_s: float = _setting(
        60.0, "Longest call of the model; a worker that is in one for longer ends itself, to be replaced.", "s", gt=0
    )
    decode_limit_s: float = _setting(
        30.0, "Longest time that an image may take to be decoded; beyond it its job fails.", "s", gt=0
    )
    result_ttl_s: int = _setting(86_400, "How long an ended job is kept.", "s", ge=1)
    image_ttl_s: int = _setting(86_400, "How long an image is kept at most, whatever becomes of its job.", "s", ge=1)
    upload_max_bytes: int = _setting(20_000_000, "Largest image accepted.", "bytes", ge=1)
    upload_max_pixels: int = _setting(50_000_000, "Most pixels of an image accepted.", "pixels", ge=1)
    bulk_max_bytes: int = _setting(
        2_000_000_000,
        "Largest form, tar or zip of images, and most that one may unpack to.",
        "bytes",
        ge=1,
    )
    queue_max_jobs: int = _setting(
        1_000_000, "Most jobs that may wait in a queue; beyond it uploads get 429.", "jobs", ge=1
    )
    queue_max_bytes: int = _setting(
        20_000_000_000, "Most bytes of images that may wait in a queue; beyond it uploads get 429.", "bytes", ge=1
    )
    ledger_max_bytes: int = _setting(
        2_000_000_000, "Most memory that the ledger's Redis may take; beyond it uploads get 503.", "bytes", ge=1
    )
    queue_share: float = _setting(
        0.5, "Share of a queue that the jobs of one API key may fill; beyond it its uploads get 429.", gt=0, le=1
    )
    access: Literal["auto", "required", "open-to-everyone"] = _setting(
        "auto", "Whether the gateway asks for API keys; `auto`: as soon as it listens on more than this machine itself."
    )
    metrics_access: Literal["open", "key"] = _setting(
        "open", "Whether `/metrics` is open, or asks for an API key with the scope `read` where API keys are asked for."
    )
    rate_limit: str = _setting(
        "60000 per minute",
        "Requests of one API key that has no limit of its own, as `100 per minute`.",
        pattern=RATE_PATTERN,
    )
    cors_origins: str = _setting(
        "", "Origins, separated by commas, whose pages may call the gateway from a browser; empty: none."
    )
    wait_max_s: float = _setting(60.0, "Longest wait that `Prefer: wait` is granted.", "s", ge=0, le=3600)
    predict_wait_s: float = _setting(30.0, "Longest wait of `POST /predict` for its result.", "s", gt=0, le=3600)
    dashboard_refresh_s: float = _setting(
        5.0, "Pause between two readings of the dashboard, and between two refreshes of its pages.", "s", ge=0.2, le=600
    )
    gateway_url: str | None = _setting(
        None,
        "Where the dashboard reaches the gateway; unset: on this machine, at its port.",
        pattern=r"^https?://[^\s/?#@]+/?$",
    )
    prometheus_url: SecretStr | None = _setting(
        None, "Prometheus from which the dashboard reads its numbers; unset: it asks gateway and workers themselves."
    )
    metrics_key: SecretStr | None = _setting(
        None,
        "API key with the scope `read`, with which the dashboard reads `/metrics` where `PAWQUEUE_METRICS_ACCESS` "
        "is `key` and there is no Prometheus.",
    )
    thumbnails_per_s: float = _setting(
        2.0, "Thumbnails that a worker keeps for the dashboard; 0: none.", "thumbnails/s", ge=0, le=100
    )
    thumbnail_pixels: int = _setting(128, "Longer side of a thumbnail.", "pixels", ge=16, le=256)
    thumbnail_ttl_s: int = _setting(3600, "How long a thumbnail is kept.", "s", ge=1)
    mlflow_tracking_uri: str | None = _setting(
        None, "MLflow server to which training sends its runs; unset: a file beside the project."
    )
    log_level: Literal["debug", "info", "warning", "error"] = _setting("info", "Least level of log lines written.")

    @field_validator("redis_url")
    @classmethod
    def _is_of_redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _REDIS_URL.fullmatch(value.get_secret_value()):
            raise ValueError("must be redis://[:PASSWORD@]HOST:PORT/NUMBER, or rediss:// for TLS with ?ssl_... options")
        return value

    def access_is_required(self) -> bool:
        """Whether the gateway asks for API keys."""
        return self.access == "required" or (self.access == "auto" and not self.is_local())

    def dashboard_access_is_required(self) -> bool:
        """Whether the dashboard asks for API keys: where the gateway does, and where others can reach it."""
        is_reachable = self.access == "auto" and not _is_loopback(self.dashboard_host)
        return self.access_is_required() or is_reachable

    def is_local(self) -> bool:
        """Whether the gateway can be reached from this machine alone."""
        return _is_loopback(self.gateway_host)

    def gateway_address(self) -> str:
        """URL of the gateway as the dashboard reaches it, without a slash at its end."""
        if self.gateway_url:
            return self.gateway_url.rstrip("/")
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.gateway_host, self.gateway_host)  # noqa: S104
        return f"http://{host}:{self.gateway_port}"

    def redis_address(self) -> str:
        """URL of the ledger's Redis, with its password if it has one."""
        return self.redis_url.get_secret_value() if self.redis_url else f"redis://127.0.0.1:{self.redis_port}/0"

    def image_store_address(self) -> str:
        """Address of the image store."""
        return self.image_store_url.get_secret_value() if self.image_store_url else str(self.state_dir / "images")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Read the table from `environ`; an empty variable counts as unset.

    A secret may also stand in a file that the variable with `_FILE` at its end names.

    Raises:
        SettingsError: a value does not fit, or a file cannot be read; all values that do not fit are named at once.
    """
    given = {name: value for name in Settings.model_fields if (value := _given(name, environ)) != ""}
    try:
        settings = Settings.model_validate(given)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(problem) for problem in error.errors())) from None
    return settings.model_copy(update={"state_dir": settings.state_dir.absolute()})


def is_secret(name: str) -> bool:
    """Whether the value of a setting must not be shown, and may stand in a file."""
    return "Secret" in str(Settings.model_fields[name].annotation)


def _given(name: str, environ: Mapping[str, str]) -> str:
    variable = variable_of(name)
    value = environ.get(variable, "").strip()
    file = environ.get(f"{variable}_FILE", "").strip()
    if value or not file or not is_secret(name):
        return value
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SettingsError(f"{variable}_FILE={file!r} cannot be read: {reason}.") from None


def variable_of(name: str) -> str:
    """Name of the environment variable of a setting."""
    return PREFIX + name.upper()


def _explain(problem: Any) -> str:
    name = str(problem["loc"][0])
    field = Settings.model_fields[name]
    value = "(hidden)" if is_secret(name) else repr(problem["input"])
    wanted = problem["msg"].replace("Input should be", "must be").removeprefix("Value error, ")
    return f"{variable_of(name)}={value}: {wanted}. {field.description} Default: {field.default}."
