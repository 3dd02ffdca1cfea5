"""The registry of models in the ledger: which versions each model has, and which of them is live.

Workers register the versions that they find. Only Lua scripts change the registry; each change raises the model's
revision and is added to a stream of changes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import cast

import redis

from contract.job import known_fields
from contract.ledger import keys
from contract.ledger.connection import read_scripts, redis_errors_as_unavailable

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


class ModelRegistry:
    """Reads and extends the registry; methods raise `UnavailableError` if Redis is not responding."""

    def __init__(self, client: "redis.Redis") -> None:
        self._redis = client
        self._register = client.register_script(read_scripts()["register_model"])

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

    @redis_errors_as_unavailable
    def live(self) -> dict[str, str]:
        """The live version of each model, by name, sorted."""
        names = self.names()
        pipeline = self._redis.pipeline(transaction=False)
        for name in names:
            pipeline.hget(keys.model(name), "live")
        return {name: version for name, version in zip(names, pipeline.execute(), strict=True) if version}

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
        name, row.get("live", ""), int(row.get("revision", 0)), dict(sorted(versions.items())), name == default
    )


def _is_version(key: str) -> bool:
    return key.startswith(_VERSION)


def _version(key: str) -> str:
    return key.removeprefix(_VERSION)
