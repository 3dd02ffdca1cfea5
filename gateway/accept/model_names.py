"""Checks the names of models that clients send."""

import time
from collections.abc import Callable, Mapping, Sequence

from contract.errors import UnknownModelError
from contract.job import split_model
from contract.ledger.models import ModelRegistry

#: How long the names are cached. A name that is not among them is looked up at once.
_CACHE_S = 2.0
#: Maximum number of names in an error.
_LISTED_MAX = 20


class ModelNames:
    """The names and versions of all models; safe to share between threads."""

    def __init__(self, registry: ModelRegistry, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        self._clock = clock
        self._versions: Mapping[str, Sequence[str]] = {}
        self._read_at_s = float("-inf")

    def check(self, model: str) -> None:
        """Check that a model named by a client exists: `NAME`, `NAME@VERSION`, or empty for the default model.

        Raises:
            UnknownModelError: there is no such model, or no such version.
            UnavailableError: Redis is not responding.
        """
        if not model:
            return
        name, version = split_model(model)
        if self._clock() - self._read_at_s < _CACHE_S and _is_known(self._versions, name, version):
            return
        self._versions, self._read_at_s = self._registry.versions(), self._clock()
        if not _is_known(self._versions, name, version):
            raise unknown_model(model, self._versions)


def unknown_model(model: str, versions: Mapping[str, Sequence[str]]) -> UnknownModelError:
    """The error for an unknown model, with the names that exist."""
    name, version = split_model(model)
    if version and name in versions:
        return UnknownModelError(f"The model {name} has no version {version}. Its versions: {_list(versions[name])}.")
    if not versions:
        return UnknownModelError("There is no model yet. Start a worker, which registers the models that it finds.")
    return UnknownModelError(f"There is no model {name}. Choose one of: {_list(list(versions))}.")


def _is_known(versions: Mapping[str, Sequence[str]], name: str, version: str) -> bool:
    return name in versions and (not version or version in versions[name])


def _list(names: Sequence[str]) -> str:
    more = len(names) - _LISTED_MAX
    return ", ".join(names[:_LISTED_MAX]) + (f" and {more} more" if more > 0 else "")
