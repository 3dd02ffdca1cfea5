"""The registry of models in the ledger: which versions each model has, and which of them is live.

Workers register the versions that they find. The live version changes in two steps: `change` records which version is
wanted, and `settle` makes it live once every worker of the model has loaded it. A canary, which processes a share of
the jobs, begins in the same two steps and ends at once. Only Lua scripts change the registry; each change raises the
model's revision and is added to a stream of changes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import IntEnum, StrEnum
from typing import cast

import redis

from contract.job import known_fields
from contract.ledger import keys
from contract.ledger.connection import read_scripts, redis_errors_as_unavailable
from contract.ledger.trials import Trial

#: A field of a model's hash that describes a version starts with this.
_VERSION = "version:"


class Registered(IntEnum):
    """What happened to a version that a worker registered."""

    #: It was known already.
    KNOWN = 0
    #: It is new, or became live.
    CHANGED = 1
    #: Rejected: another bundle is registered under the same name and version.
    DIFFERENT = 2
    #: Rejected: there are too many models, or too many versions of this one.
    TOO_MANY = 3


class ChangeKind(StrEnum):
    """What a change of a model does."""

    #: Makes a version live.
    LIVE = "live"
    #: Lets a version process a share of the jobs.
    CANARY = "canary"
    #: Ends the canary.
    CANARY_END = "canary_end"


@dataclass(frozen=True, slots=True)
class CanaryTerms:
    """What a canary gets."""

    #: Its share of the jobs that name no version, above 0 and below 100.
    percent: float
    #: Whether it ends by itself if it is worse than the live version.
    auto_rollback: bool = False


class Begun(StrEnum):
    """What happened to a request to change a model."""

    BEGUN = "begun"
    #: Nothing had to be done, or it is done already.
    LIVE = "live"
    UNKNOWN_MODEL = "unknown_model"
    UNKNOWN_VERSION = "unknown_version"
    #: There is no version to go back to.
    NO_PREVIOUS = "no_previous"
    #: The version is live, so it cannot be a canary.
    IS_LIVE = "is_live"
    #: The model has changed since the revision that the request names.
    CHANGED = "changed"
    #: Another change has begun and not ended.
    CHANGING = "changing"


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a model: of its live version, or of its canary."""

    #: The version that is to become live or the canary, or that was the canary.
    version: str
    #: Id of the API key that asked for it; empty if no key is required.
    by: str
    why: str
    #: The revision of the model when the change began: identifies the change.
    revision: int
    started_ms: int
    #: When the change is taken back, if not all workers have loaded the version.
    until_ms: int
    #: When the change took effect, or was taken back; None while it is in progress.
    settled_ms: int | None = None
    #: Why it was taken back, or why the canary was; empty if nothing went wrong.
    problem: str = ""
    kind: str = ChangeKind.LIVE
    #: Of a canary: its share of the jobs in percent.
    percent: float = 0.0
    #: Of a canary: whether it ends by itself if it is worse than the live version.
    auto_rollback: bool = False

    @classmethod
    def from_json(cls, text: str) -> "Change":
        """Read a stored change; unknown fields, from a newer version, are ignored."""
        return cls(**known_fields(cls, json.loads(text)))


@dataclass(frozen=True, slots=True)
class Shadow:
    """A version that predicts some images after the live version has; clients never get its results."""

    version: str
    #: The share of the jobs that it predicts, 0..1.
    sample: float
    #: Id of the API key that asked for it; empty if no key is required.
    by: str
    why: str
    #: The revision of the model when it was set: identifies it.
    revision: int
    started_ms: int
    #: Why it was stopped; empty while it runs.
    problem: str = ""

    @classmethod
    def from_json(cls, text: str) -> "Shadow":
        """Read a stored shadow; unknown fields, from a newer version, are ignored."""
        return cls(**known_fields(cls, json.loads(text)))


@dataclass(frozen=True, slots=True)
class Route:
    """Which version of a model processes jobs, which one will, and which one is compared with it."""

    live: str
    change: Change | None = None
    canary: Change | None = None
    shadow: Shadow | None = None
    #: How many canaries were taken back because they were worse.
    taken_back: int = 0


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """What clients may know about one version of a model."""

    labels: Sequence[str]
    #: Size of the input in pixels.
    height: int
    width: int
    #: `sigmoid` or `softmax`.
    output: str = ""
    architecture: str = ""
    #: By name: value, low and high end of its 95 % interval.
    metrics: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    created_at: str = ""
    #: SHA-256 of the manifest.
    checksum: str = ""

    @classmethod
    def from_json(cls, text: str) -> "VersionInfo":
        """Read a stored description; unknown fields, from a newer version, are ignored."""
        return cls(**known_fields(cls, json.loads(text)))


@dataclass(frozen=True, slots=True)
class Model:
    """A model with its versions."""

    name: str
    #: The version that answers jobs without a pinned version.
    live: str
    #: Grows with every change.
    revision: int
    versions: Mapping[str, VersionInfo]
    #: Whether it answers jobs that name no model.
    is_default: bool = False
    #: The version that was live before.
    previous: str = ""
    #: The change that is in progress, and the last one that ended.
    change: Change | None = None
    last_change: Change | None = None
    shadow: Shadow | None = None
    #: The change that began its canary; None if it has none.
    canary: Change | None = None
    #: How many canaries were taken back because they were worse.
    taken_back: int = 0


class ModelRegistry:
    """Reads and extends the registry; methods raise `UnavailableError` if Redis is not responding."""

    def __init__(self, client: "redis.Redis") -> None:
        self._redis = client
        scripts = read_scripts()
        self._register = client.register_script(scripts["register_model"])
        self._change = client.register_script(scripts["change_model"])
        self._settle = client.register_script(scripts["settle_model"])
        self._shadow = client.register_script(scripts["shadow_model"])
        self._stop_shadow = client.register_script(scripts["stop_shadow"])
        self._end_canary = client.register_script(scripts["end_canary"])

    @redis_errors_as_unavailable
    def register(
        self, name: str, version: str, info: VersionInfo, by: str, *, live: bool = False, default: bool = False
    ) -> Registered:
        """Add a version that was found; the first version of a model is live at once.

        Args:
            name: The model.
            version: Its version.
            info: The description of the version.
            by: Who registers it, for the stream of changes.
            live: Make it the live version, because its folder was chosen in the settings. It may replace a version with
                the same name.
            default: Make its model the default model.
        """
        description = json.dumps(asdict(info))
        arguments: list[str | int] = [name, version, description, info.checksum, by, int(live), int(default)]
        return Registered(int(cast("int", self._register(args=arguments))))

    @redis_errors_as_unavailable
    def change(  # noqa: PLR0913 - one for each argument of the script
        self,
        name: str,
        version: str | None,
        *,
        canary: CanaryTerms | None = None,
        by: str = "",
        why: str = "",
        limit_s: float,
        revision: int | None = None,
        now_ms: int = 0,
    ) -> tuple[Begun, int]:
        """Begin to make another version live or the canary, which `settle` completes.

        Args:
            name: The model.
            version: The version; None for the one that was live before.
            canary: Make the version the canary, on these terms; it replaces another one. None to make it live.
            by: Who asks for it.
            why: The reason, for the stream of changes.
            limit_s: The change is taken back if the workers have not loaded the version after this time.
            revision: The revision that the model must have; None for any.
            now_ms: The time; 0 for the clock of Redis.

        Returns:
            What happened, and the revision of the model, which identifies the change if it has begun. The same request
            again does not begin another change.
        """
        kind, options = (ChangeKind.CANARY, asdict(canary)) if canary else (ChangeKind.LIVE, {})
        head: list[str | int] = [now_ms, name, version or "", by, why, int(limit_s * 1000), _or_any(revision)]
        code, found = cast("tuple[str, int]", self._change(args=[*head, kind, json.dumps(options)]))
        return Begun(code), found

    @redis_errors_as_unavailable
    def end_canary(
        self,
        name: str,
        *,
        by: str = "",
        why: str = "",
        revision: int | None = None,
        canary: Change | None = None,
        problem: str = "",
        now_ms: int = 0,
    ) -> tuple[Begun, int]:
        """End the canary of a model at once; jobs that it has begun finish.

        Args:
            name: The model.
            by: Who asks for it.
            why: The reason, for the stream of changes.
            revision: The revision that the model must have; None for any.
            canary: Do nothing unless the model still has this canary; None for any, also one that is being loaded.
            problem: Why it is taken back; empty if a person ends it.
            now_ms: The time; 0 for the clock of Redis.

        Returns:
            What happened (`LIVE`: the model has no canary now), and the revision of the model.
        """
        which = canary.revision if canary else ""
        code, found = self._end_canary(args=[now_ms, name, by, why, _or_any(revision), which, problem])
        return Begun(code), int(found)

    @redis_errors_as_unavailable
    def trial(self, name: str, canary: Change) -> Trial:
        """What the canary of a model and its live version did since the canary began."""
        fields = cast("dict[str, str]", self._redis.hgetall(f"{keys.TRIAL}{name}"))
        return Trial.from_fields(canary.percent, fields)

    @redis_errors_as_unavailable
    def settle(self, name: str, now_ms: int = 0) -> bool:
        """End the change that is in progress if every live worker of the model has loaded the version, or one of them
        cannot, or its time is over; returns whether it did.
        """
        return bool(self._settle(args=[now_ms, name]))

    @redis_errors_as_unavailable
    def set_shadow(
        self,
        name: str,
        version: str | None,
        *,
        sample: float = 1.0,
        by: str = "",
        why: str = "",
        revision: int | None = None,
        now_ms: int = 0,
    ) -> tuple[Begun, int]:
        """Set the shadow of a model, or remove it if `version` is None; returns what happened and the revision.

        The same request again changes nothing, unless the shadow was stopped.

        Args:
            name: The model.
            version: The version that becomes its shadow.
            sample: The share of the jobs that it predicts, 0..1.
            by: Who asks for it.
            why: The reason, for the stream of changes.
            revision: The revision that the model must have; None for any.
            now_ms: The time; 0 for the clock of Redis.
        """
        expected = "" if revision is None else revision
        arguments: list[str | int | float] = [now_ms, name, version or "", by, why, sample, expected]
        code, found = cast("tuple[str, int]", self._shadow(args=arguments))
        return Begun(code), found

    @redis_errors_as_unavailable
    def stop_shadow(self, name: str, revision: int, problem: str, by: str) -> bool:
        """Stop the shadow that was set at a revision, with the reason; False if it is not running."""
        return bool(self._stop_shadow(args=[name, revision, by, problem]))

    @redis_errors_as_unavailable
    def names(self) -> list[str]:
        """The names of all models, sorted."""
        return sorted(cast("set[str]", self._redis.smembers(keys.MODELS)))

    @redis_errors_as_unavailable
    def versions(self) -> dict[str, list[str]]:
        """The versions of all models, by name, without their descriptions."""
        names = self.names()
        pipeline = self._redis.pipeline(transaction=False)
        for name in names:
            pipeline.hkeys(keys.model(name))
        found = zip(names, pipeline.execute(), strict=True)
        return {name: sorted(map(_version, filter(_is_version, fields))) for name, fields in found}

    def live(self) -> dict[str, str]:
        """The live version of each model, by name, sorted."""
        return {name: route.live for name, route in self.routes().items()}

    @redis_errors_as_unavailable
    def routes(self) -> dict[str, Route]:
        """The live version of each model, its canary, its shadow and the change in progress, by name, sorted."""
        names = self.names()
        pipeline = self._redis.pipeline(transaction=False)
        for name in names:
            pipeline.hmget(keys.model(name), ["live", "next", "canary", "shadow", "taken_back"])
        rows = zip(names, pipeline.execute(), strict=True)
        return {
            name: Route(live, _change(change), _change(canary), _shadow(shadow), int(taken_back or 0))
            for name, (live, change, canary, shadow, taken_back) in rows
            if live
        }

    @redis_errors_as_unavailable
    def default(self) -> str:
        """The name of the default model; empty before a worker has registered it."""
        return cast("str | None", self._redis.get(keys.DEFAULT_MODEL)) or ""

    @redis_errors_as_unavailable
    def models(self) -> list[Model]:
        """All models, sorted by name."""
        names = self.names()
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.get(keys.DEFAULT_MODEL)
        for name in names:
            pipeline.hgetall(keys.model(name))
        default, *rows = pipeline.execute()
        return [_model(name, row, default) for name, row in zip(names, rows, strict=True) if row]

    @redis_errors_as_unavailable
    def model(self, name: str) -> Model | None:
        """One model; None for an unknown name."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.get(keys.DEFAULT_MODEL)
        pipeline.hgetall(keys.model(name))
        default, row = pipeline.execute()
        return _model(name, row, default) if row else None


def _model(name: str, row: Mapping[str, str], default: str | None) -> Model:
    versions = {_version(key): VersionInfo.from_json(text) for key, text in row.items() if _is_version(key)}
    return Model(
        name,
        row.get("live", ""),
        int(row.get("revision", 0)),
        dict(sorted(versions.items())),
        is_default=name == default,
        previous=row.get("previous", ""),
        change=_change(row.get("next")),
        last_change=_change(row.get("last")),
        shadow=_shadow(row.get("shadow")),
        canary=_change(row.get("canary")),
        taken_back=int(row.get("taken_back", 0)),
    )


def _or_any(revision: int | None) -> str | int:
    return "" if revision is None else revision


def _change(text: str | None) -> Change | None:
    return Change.from_json(text) if text else None


def _shadow(text: str | None) -> Shadow | None:
    return Shadow.from_json(text) if text else None


def _is_version(key: str) -> bool:
    return key.startswith(_VERSION)


def _version(key: str) -> str:
    return key.removeprefix(_VERSION)
