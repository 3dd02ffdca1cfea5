"""The models that a worker serves: finds their versions, registers them, and loads them when jobs need them."""

import gc
import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bundle.locate import bundle_to_serve
from bundle.manifest import MANIFEST_FILE, BundleError, Manifest, read_manifest, sha256_of
from bundle.store import ModelStore, StoredVersion, open_model_store
from bundle.target import Target
from contract.errors import UnavailableError
from contract.job import ModelRef, split_model
from contract.ledger.models import Change, ModelRegistry, Registered, Route, Shadow, VersionInfo
from contract.ledger.types import HeldModel
from contract.log import get_logger
from contract.queues import QUEUES, queue_name
from contract.settings import Settings
from worker.runtime.crashes import CrashRecorder
from worker.runtime.keras import KerasModel
from worker.runtime.strategies import FairLock

_log = get_logger(__name__)

#: Pause between two looks at the store and the registry.
_REFRESH_S = 2.0
#: A version that cannot be loaded is tried again after this time.
_RETRY_S = 60.0
#: A loaded version that no batch has used after this time may be unloaded.
_FIRST_USE_S = 10.0
_POLL_S = 0.05
#: A shadow that failed on an image is not used for this time.
_SHADOW_PAUSE_S = 60.0
_MAX_PROBLEM_CHARS = 500
#: Why a version is not registered. It is then not served, and registering it is tried again at every look.
_NOT_REGISTERED = {
    Registered.DIFFERENT: "Another bundle is registered under this name and version. Import it as another version.",
    Registered.TOO_MANY: "There are too many models, or versions of this model.",
}
_CRASHED = (
    "A worker died while it was loading the shadow, or predicting with it. It may need more memory than there is. "
    "Set it again to try once more."
)


class UnusableModelError(Exception):
    """A job cannot be processed by the version that it names; the message is for its sender."""

    def __init__(self, ref: ModelRef, problem: str) -> None:
        super().__init__(f"The model {ref.name}@{ref.version} cannot be used. {problem}")
        self.ref = ref


@dataclass(slots=True)
class _Version:
    stored: StoredVersion
    #: None if its manifest cannot be read.
    target: Target | None = None
    info: VersionInfo | None = None
    is_registered: bool = False
    #: `waiting`, `loading`, `ready` or `failed`; see `HeldModel`.
    state: str = "waiting"
    problem: str = ""
    model: KerasModel | None = None
    memory_bytes: int = 0
    #: Monotonic time in seconds of the last batch, or of loading.
    used_at_s: float = 0.0
    #: Whether it predicted a batch since it was loaded. Until then it is not unloaded.
    is_used: bool = False
    retry_at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Pause:
    """Why a shadow is not used."""

    #: Identifies the shadow.
    revision: int
    problem: str
    #: Monotonic time in seconds.
    end_s: float


@dataclass(frozen=True)
class ModelOptions:
    """What a worker serves, from its settings."""

    #: Names of models; None for all.
    served: frozenset[str] | None = None
    #: The bundle of `PAWQUEUE_MODEL`, the promoted or the included one; None if another model is the default.
    base: StoredVersion | None = None
    #: Name of the default model.
    default: str = ""
    #: Maximum memory of the loaded models; None for no limit.
    memory_bytes: int | None = None
    #: A version that is not live is unloaded if no batch has used it for this time.
    keep_s: float = 600.0


class Models:
    """The versions that a worker may load; thread-safe.

    One thread loads them, so that batches of other models go on. Methods that the pipeline calls never wait for it.
    """

    def __init__(
        self,
        load: Callable[..., KerasModel],
        options: ModelOptions,
        *,
        store: ModelStore | None = None,
        registry: ModelRegistry | None = None,
        by: str = "",
        crashes: CrashRecorder | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load_bundle = load
        self._options = options
        self._store = store
        self._registry = registry
        #: Who registers versions.
        self._by = by
        self._crashes = crashes or CrashRecorder(None)
        self._clock = clock
        self._lock = threading.Lock()
        #: Of batches, and of calls that measure a version.
        self._turns = FairLock()
        self._versions: dict[ModelRef, _Version] = {}
        #: The live version by name, and the name of the default model, as the registry had them last.
        self._live: dict[str, str] = {}
        self._default = options.default
        #: By name: the canary, the change that is in progress, and the revision of the change that was begun here.
        self._canaries: dict[str, Change] = {}
        self._changes: dict[str, Change] = {}
        self._begun: dict[str, int] = {}
        #: By name: the shadow, unless it was stopped.
        self._shadows: dict[str, Shadow] = {}
        #: Shadows that are being loaded only to be compared, if there is enough memory, and by name why one is paused.
        self._optional: dict[ModelRef, Shadow] = {}
        self._pauses: dict[str, _Pause] = {}
        self._requests: queue.SimpleQueue[ModelRef | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        #: Called before a version is loaded because jobs need it.
        self.before_load: Callable[[], None] = lambda: None
        #: Called after a version became ready or failed, and after every refresh.
        self.changed: Callable[[], None] = lambda: None

    @classmethod
    def of(cls, model: KerasModel) -> "Models":
        """The models of a worker that serves one loaded model, and reads no store and no registry."""
        ref = ModelRef(model.name, model.version)
        stored = StoredVersion(model.name, model.version, Path())
        models = cls(lambda *_: model, ModelOptions(base=stored, default=model.name))
        models._versions[ref] = _Version(stored, model.target, state="ready", model=model, is_used=True)
        return models

    def start(self) -> None:
        """Start the threads that look for versions and load them."""
        for name, run in (("models", self._keep_up), ("load", self._serve_requests)):
            self._threads.append(threading.Thread(target=run, name=name, daemon=True))
            self._threads[-1].start()

    def stop(self) -> None:
        """Stop the threads; a version that is being loaded is abandoned with the process."""
        self._crashes.close()
        self._stopping.set()
        self._requests.put(None)

    # For the pipeline

    def queue_names(self) -> list[str]:
        """The queues from which the worker takes jobs, in order of priority."""
        with self._lock:
            names = [name for name in self._served_names() if self._is_usable(name)]
            if self._default in names:
                names = ["", *names]
        return [queue_name(queue, name) for queue in QUEUES for name in names]

    def choose(self, routed: str, model: str, instead: str = "") -> ModelRef:
        """The version that processes a job which was routed to `NAME@VERSION` and whose sender named `model`.

        If it was routed to a canary that is not loaded, the version `instead` processes it, and the canary is loaded
        for later jobs.

        Raises:
            UnusableModelError: its sender pinned a version that does not exist, or cannot be loaded.
        """
        if instead and not self.is_ready(ModelRef(*split_model(routed))):
            routed = instead
        name, version = split_model(routed or model or self._default)
        _, pinned = split_model(model)
        with self._lock:
            ref = ModelRef(name, version)
            found = self._versions.get(ref)
            if not pinned and not (found and found.target):
                # Another worker can read a version that this one cannot.
                ref = self._live_version(name) or ref
                found = self._versions.get(ref)
            if found and found.target and (found.state != "failed" or not pinned):
                return ref
        raise UnusableModelError(ref, self.problem(ref))

    def target(self, ref: ModelRef) -> Target:
        """What the decoder makes of an image for a version; does not need the version to be loaded."""
        with self._lock:
            target = self._versions[ref].target
        assert target  # noqa: S101 - `choose` returns only versions whose manifest was read
        return target

    def is_ready(self, ref: Hashable) -> bool:
        """Whether a version is loaded; if it is not, but can be, it will be."""
        with self._lock:
            found = self._versions.get(ref)  # type: ignore[call-overload]
            if found and found.state == "waiting":
                found.state = "loading"
                self._requests.put(ModelRef(found.stored.name, found.stored.version))
            elif found and found.state == "loading":
                self._optional.pop(ref, None)  # type: ignore[call-overload]
            return bool(found and found.model)

    def has_failed(self, ref: Hashable) -> bool:
        """Whether a version cannot be loaded."""
        with self._lock:
            found = self._versions.get(ref)  # type: ignore[call-overload]
            return found is None or found.state == "failed"

    def problem(self, ref: ModelRef) -> str:
        """Why a version cannot be loaded; empty if it can."""
        with self._lock:
            found = self._versions.get(ref)
            return found.problem if found else "The worker that took the job does not have it."

    def get(self, ref: ModelRef) -> KerasModel | None:
        """A loaded version, for one batch; None if it was unloaded in the meantime."""
        with self._lock:
            found = self._versions[ref]
            found.used_at_s, found.is_used = self._clock(), True
            return found.model

    @contextmanager
    def predicting(self, ref: ModelRef) -> Iterator[None]:
        """A context in which a version predicts a batch. A worker that dies in it counts as a crash of the version."""
        with self._turns, self._crashes.predicting(ref):
            yield

    # For the shadow

    def shadow_of(self, ref: ModelRef) -> Shadow | None:
        """The version that is compared with this one; None if none is, or if it cannot be at the moment."""
        shadow = self._shadows.get(ref.name)  # a job without a shadow must not wait for the lock
        if shadow is None or shadow.version == ref.version:
            return None
        with self._lock:
            found = self._versions.get(ModelRef(ref.name, shadow.version))
            is_usable = found and found.model and not self._pause_of(ref.name, shadow)
            return shadow if is_usable else None

    @contextmanager
    def shadowing(self, name: str, shadow: Shadow) -> Iterator[KerasModel | None]:
        """A context with a shadow, in which no other version predicts; None if it was unloaded or stopped.

        A worker that dies in it counts as a crash of the shadow.
        """
        ref = ModelRef(name, shadow.version)
        with self._turns, self._crashes.shadowing(ref, shadow.revision):
            with self._lock:
                found = self._versions.get(ref)
                model = found.model if found and self._shadows.get(name) == shadow else None
            yield model

    def is_predicting(self) -> bool:
        """Whether a version predicts, is measured, or waits for its turn."""
        return bool(len(self._turns))

    def pause_shadow(self, name: str, shadow: Shadow, error: Exception) -> None:
        """Do not use a shadow for a while, because it failed on an image."""
        end_s = time.time() + _SHADOW_PAUSE_S
        problem = f"It failed on an image ({type(error).__name__}: {error})"
        text = f"{problem[:_MAX_PROBLEM_CHARS]}. Workers try it again {_clock_text(end_s)}."
        with self._lock:
            self._pauses[name] = _Pause(shadow.revision, text, self._clock() + _SHADOW_PAUSE_S)
        _log.warning("A shadow failed and is paused", model=name, version=shadow.version, exc_info=error)

    def shadows(self) -> list[HeldModel]:
        """The shadows of the models that the worker serves; their problem is empty if they are used, or loading."""
        with self._lock:
            return [
                HeldModel(name, shadow.version, *self._shadow_state(name, shadow))
                for name, shadow in sorted(self._shadows.items())
            ]

    def _shadow_state(self, name: str, shadow: Shadow) -> tuple[str, str]:
        ref = ModelRef(name, shadow.version)
        found, live = self._versions.get(ref), self._live_version(name)
        if found is None:
            return "waiting", "A worker does not have the version."
        if found.state == "failed":
            return "failed", found.problem
        if live == ref:
            return "waiting", "It is live."
        if problem := self._pause_of(name, shadow):
            return "failed", problem
        if not found.model and not self._fits(ref):
            return "waiting", "It does not fit into PAWQUEUE_MODEL_MEMORY_BYTES beside the other versions."
        return found.state, ""

    def _pause_of(self, name: str, shadow: Shadow) -> str:
        """Why a shadow is paused; empty if it is not."""
        pause = self._pauses.get(name)
        is_paused = pause and pause.revision == shadow.revision and self._clock() < pause.end_s
        return pause.problem if pause and is_paused else ""

    # For the heartbeat

    def served_names(self) -> list[str]:
        """The names of the models whose jobs the worker takes now."""
        with self._lock:
            return [name for name in self._served_names() if self._is_usable(name)]

    def held(self) -> list[HeldModel]:
        """The state of every version that the worker serves."""
        with self._lock:
            return [
                HeldModel(ref.name, ref.version, found.state, found.problem)
                for ref, found in sorted(self._versions.items(), key=lambda item: (item[0].name, item[0].version))
            ]

    def prepared(self) -> dict[str, int]:
        """By model: the revision of the change of its live version for which this worker's part is done."""
        with self._lock:
            return {
                name: change.revision
                for name, change in self._changes.items()
                if self._begun.get(name) == change.revision
                and self._versions[ModelRef(name, change.version)].state in ("ready", "failed")
            }

    def live_versions(self) -> list[ModelRef]:
        """The live version of each model that the worker serves, that of the default model first."""
        with self._lock:
            names = sorted(self._served_names(), key=lambda name: name != self._default)
            return [ref for name in names if (ref := self._live_version(name))]

    def load(self, ref: ModelRef) -> KerasModel:
        """Load a version and return it.

        Raises:
            BundleError: it cannot be loaded.
        """
        return self._load(ref, self._crashes.loading(ref))

    def _load(self, ref: ModelRef, recording: AbstractContextManager[None]) -> KerasModel:
        with self._lock:
            found = self._versions[ref]
            found.state = "loading"
        try:
            while self._unload_others(ref) and not self._stopping.wait(_POLL_S):
                pass
            gc.collect()
            before = _memory_bytes()
            with recording:
                model = self._load_bundle(found.stored.folder, self._turns)
        # Frameworks can raise anything on a network that they cannot build.
        except Exception as error:
            self._fail(found, str(error))
            raise BundleError(str(error)) from error
        with self._lock:
            found.model, found.state, found.problem = model, "ready", ""
            # The process may have reused the memory of a version that was unloaded.
            grown = max(0, _memory_bytes() - before)
            found.memory_bytes = max(found.memory_bytes, grown, _size_of(found.stored.folder))
            found.used_at_s, found.is_used = self._clock(), False
        _log.info(
            "Model loaded", model=model.name, version=model.version, precision=model.precision, backend=model.backend
        )
        return model

    def refresh(self) -> None:
        """Look for new versions in the store, register them, and read which ones are live.

        Raises:
            UnavailableError: Redis is not responding.
        """
        versions = list(self._found())
        for stored in versions:
            self._add(stored)
        self._pause_crashing()
        if self._registry:
            names = Counter(stored.name for stored in versions)
            for stored in versions:
                self._register(stored, self._registry, is_alone=names[stored.name] == 1)
            routes, default = self._registry.routes(), self._registry.default()
            with self._lock:
                self._live = {name: route.live for name, route in routes.items()}
                self._changes = {name: route.change for name, route in routes.items() if route.change}
                self._canaries = {name: route.canary for name, route in routes.items() if route.canary}
                self._default = default or self._options.default
            self._change_versions(self._registry)
            self._judge_canaries(self._registry)
            self._keep_shadows(self._registry, routes)
        now_s = self._clock()
        with self._lock:
            for found in self._versions.values():
                if found.state == "failed" and found.is_registered and now_s >= found.retry_at_s:
                    found.state = "waiting"
            self._unload_old(now_s)

    def _change_versions(self, registry: ModelRegistry) -> None:
        """Load the versions that are to become live or canaries, beside those that are live."""
        for name, change in self._changes.items():
            ref = ModelRef(name, change.version)
            with self._lock:
                found = self._versions.get(ref)
                if found and self._begun.get(name) != change.revision:
                    self._begun[name] = change.revision
                    is_paused = self._crashes.crashes(ref).pause_end_s > time.time()
                    if found.state == "failed" and found.is_registered and not is_paused:
                        found.state = "waiting"
            self.is_ready(ref)
            if name in self._served_names():
                registry.settle(name)

    def _keep_shadows(self, registry: ModelRegistry, routes: Mapping[str, Route]) -> None:
        """Load the shadows that fit into memory, and stop those that crashed a worker."""
        served, shadows = self._served_names(), {}
        for name, route in routes.items():
            shadow = route.shadow
            if name not in served or not shadow or shadow.problem:
                continue
            ref = ModelRef(name, shadow.version)
            if not self._crashes.has_crashed(ref, shadow.revision):
                shadows[name] = shadow
                continue
            registry.stop_shadow(name, shadow.revision, _CRASHED, self._by)
            self._crashes.forget(ref, shadow.revision)
        with self._lock:
            self._shadows = shadows
            for name, shadow in shadows.items():
                ref = ModelRef(name, shadow.version)
                found = self._versions.get(ref)
                if found and found.state == "waiting" and ref != self._live_version(name) and self._fits(ref):
                    found.state = "loading"
                    self._optional[ref] = shadow
                    self._requests.put(ref)

    def _shadow_versions(self) -> list[_Version]:
        """The versions that are loaded only to be compared."""
        needed = {self._live_version(name) for name in self._shadows}
        for changes in (self._changes, self._canaries):
            needed |= {ModelRef(name, change.version) for name, change in changes.items()}
        refs = {ModelRef(name, shadow.version) for name, shadow in self._shadows.items()}
        return [self._versions[ref] for ref in refs - needed if ref in self._versions]

    def _fits(self, ref: ModelRef) -> bool:
        """Whether a version fits into memory beside all that are loaded."""
        limit, found = self._options.memory_bytes, self._versions[ref]
        needed = found.memory_bytes or _size_of(found.stored.folder)
        return limit is None or self._loaded_bytes() + needed <= limit

    def _loaded_bytes(self) -> int:
        return sum(found.memory_bytes for found in self._versions.values() if found.model)

    def _judge_canaries(self, registry: ModelRegistry) -> None:
        """End canaries that are worse than the live version, if they are to end by themselves."""
        for name, canary in self._canaries.items():
            if not canary.auto_rollback or name not in self._served_names():
                continue
            problem = self.problem(ModelRef(name, canary.version)) if self._cannot_use(name, canary) else ""
            problem = f"A worker cannot use it. {problem}" if problem else registry.trial(name, canary).problem()
            if problem:
                _log.warning("A canary is taken back", model=name, version=canary.version, reason=problem)
                registry.end_canary(name, by=self._by, canary=canary, problem=problem)

    def _cannot_use(self, name: str, canary: Change) -> bool:
        with self._lock:
            found = self._versions.get(ModelRef(name, canary.version))
            return found is not None and found.state == "failed"

    def _found(self) -> Iterator[StoredVersion]:
        base, served = self._options.base, self._options.served
        if base and (served is None or base.name in served):
            yield base
        for stored in self._store.versions() if self._store else ():
            is_base = base and (base.name, base.version) == (stored.name, stored.version)
            if not is_base and (served is None or stored.name in served):
                yield stored

    def _add(self, stored: StoredVersion) -> None:
        ref = ModelRef(stored.name, stored.version)
        with self._lock:
            found = self._versions.get(ref)
        if found and found.info:
            return
        is_new, found = found is None, found or _Version(stored)
        try:
            if self._store and stored is not self._options.base:
                self._store.fetch(stored)
            manifest = stored.read_manifest()
        except BundleError as error:
            self._fail(found, str(error), quiet=not is_new)
        else:
            found.target = manifest.input.target
            found.info = version_info(manifest, sha256_of(stored.folder / MANIFEST_FILE))
            found.state = "waiting"
        with self._lock:
            self._versions[ref] = found

    def _register(self, stored: StoredVersion, registry: ModelRegistry, *, is_alone: bool) -> None:
        found = self._versions[ModelRef(stored.name, stored.version)]
        # Without a live version, Redis has lost its data.
        if found.info is None or (found.is_registered and stored.name in self._live):
            return
        done = registry.register(
            stored.name,
            stored.version,
            found.info,
            by=self._by,
            live=stored is self._options.base and is_alone,
            default=stored.name == self._options.default,
        )
        found.is_registered = done in (Registered.KNOWN, Registered.CHANGED)
        if not found.is_registered:
            problem = _NOT_REGISTERED[done]
            self._fail(found, problem, quiet=found.problem == problem)

    def _pause_crashing(self) -> None:
        """Neither load nor use versions that crashed workers, for a time, so that other models are served."""
        self._crashes.refresh()
        for ref, found in list(self._versions.items()):
            crashes = self._crashes.crashes(ref)
            left_s = crashes.pause_end_s - time.time()
            if left_s > 0 and found.state not in ("failed", "loading") and self._has_others(ref):
                problem = (
                    f"It crashed its worker {crashes.in_a_row} times in a row. It may need more memory than there is. "
                    f"Workers try it again {_clock_text(crashes.pause_end_s)}."
                )
                self._fail(found, problem, retry_s=left_s)

    def _has_others(self, ref: ModelRef) -> bool:
        """Whether there are other versions to serve."""
        with self._lock:
            names = [name for name in self._served_names() if self._is_usable(name)]
            return any(self._live_version(name) != ref for name in names)

    def _served_names(self) -> list[str]:
        return sorted({ref.name for ref in self._versions})

    def _is_usable(self, name: str) -> bool:
        ref = self._live_version(name)
        return bool(ref and self._versions[ref].state != "failed")

    def _live_version(self, name: str) -> ModelRef | None:
        live = ModelRef(name, self._live.get(name, ""))
        return live if live in self._versions else self._own_version(name)

    def _own_version(self, name: str) -> ModelRef | None:
        base = self._options.base
        ref = ModelRef(base.name, base.version) if base else None
        return ref if ref and ref.name == name and ref in self._versions else None

    def _unload_others(self, ref: ModelRef) -> bool:
        """Unload the least recently used versions until this one fits; returns whether to try again in a moment.

        Raises:
            BundleError: it does not fit beside the live version that it is to replace, and jobs still need that one.
        """
        limit = self._options.memory_bytes
        if limit is None:
            return False
        with self._lock:
            needed = self._versions[ref].memory_bytes or _size_of(self._versions[ref].stored.folder)
            kept = self._replaced_by(ref)
            total = self._loaded_bytes() + needed
            for found in self._shadow_versions():
                if found.model and total > limit:
                    self._unload(found)
                    total -= found.memory_bytes
            loaded = sorted(
                (found for found in self._versions.values() if found.model and found is not kept),
                key=lambda item: item.used_at_s,
            )
            for found in loaded:
                # Jobs wait for a version that was only just loaded.
                if total > limit and (found.is_used or found.used_at_s < self._clock() - _FIRST_USE_S):
                    self._unload(found)
                    total -= found.memory_bytes
            if kept and total > limit and not any(found.model for found in loaded):
                raise BundleError(
                    "It does not fit into PAWQUEUE_MODEL_MEMORY_BYTES beside the live version. Raise the limit."
                )
            return total > limit and any(found.model for found in loaded)

    def _replaced_by(self, ref: ModelRef) -> _Version | None:
        """The loaded live version that a version, or a canary, may replace; None if it is to replace none."""
        changes, live = (self._changes.get(ref.name), self._canaries.get(ref.name)), self._live_version(ref.name)
        if not live or ref.version not in [change.version for change in changes if change]:
            return None
        found = self._versions[live]
        return found if found.model else None

    def _unload_old(self, now_s: float) -> None:
        """Unload versions that were replaced a while ago."""
        needed = {self._live_version(name) for name in self._served_names()}
        for changes in (self._changes, self._canaries, self._shadows):
            needed |= {ModelRef(name, change.version) for name, change in changes.items()}
        for ref, found in self._versions.items():
            if found.model and ref not in needed and now_s >= found.used_at_s + self._options.keep_s:
                self._unload(found)

    @staticmethod
    def _unload(found: _Version) -> None:
        found.model, found.state = None, "waiting"
        _log.info("Model unloaded", model=found.stored.name, version=found.stored.version)

    def _fail(self, found: _Version, problem: str, *, quiet: bool = False, retry_s: float = _RETRY_S) -> None:
        with self._lock:
            found.state, found.problem, found.model = "failed", problem[:_MAX_PROBLEM_CHARS], None
            found.retry_at_s = self._clock() + retry_s
        if not quiet:
            _log.error(
                "The model cannot be served", model=found.stored.name, version=found.stored.version, reason=problem
            )

    # Threads

    def _keep_up(self) -> None:
        while not self._stopping.wait(_REFRESH_S):
            try:
                with suppress(UnavailableError):
                    self.refresh()
                self.changed()
            # The thread must keep running: without it, no new version is found.
            except Exception:  # noqa: BLE001
                _log.exception("The models could not be read")

    def _serve_requests(self) -> None:
        while ref := self._requests.get():
            self.before_load()
            with suppress(BundleError):  # it is logged
                self._load_requested(ref)
            self.changed()

    def _load_requested(self, ref: ModelRef) -> None:
        with self._lock:
            found, shadow = self._versions[ref], self._optional.pop(ref, None)
            if shadow and not self._fits(ref):
                found.state = "waiting"
                return
        if shadow is None:
            self.load(ref)
            return
        self._load(ref, self._crashes.loading_shadow(ref, shadow.revision))
        with self._lock:
            limit = self._options.memory_bytes
            if found.model and limit is not None and self._loaded_bytes() > limit:
                self._unload(found)  # it needs more memory than its files


def models_to_serve(settings: Settings, load: Callable[..., KerasModel], registry: ModelRegistry, by: str) -> Models:
    """The models that a worker with these settings serves; `load` takes a folder, the checksum of its bundle, and the
    context in which it calls the network to measure it.

    Raises:
        BundleError: the bundle of the settings is missing or damaged, or the model store cannot be opened.
    """
    folder = bundle_to_serve(settings.model, settings.state_dir)
    manifest = read_manifest(folder, settings.model_checksum)
    base = StoredVersion(manifest.name, manifest.version, folder)

    def load_folder(chosen: Path, turn: FairLock) -> KerasModel:
        return load(chosen, settings.model_checksum if chosen == folder else None, turn)

    options = ModelOptions(
        settings.served_models(),
        base,
        settings.default_model or base.name,
        settings.model_memory_bytes,
        settings.rollback_keep_s,
    )
    # With a checksum, a worker runs no other bundle.
    store = None
    if not settings.model_checksum:
        store = open_model_store(settings.model_store_address(), settings.state_dir / "cache" / "models")
    crashes = CrashRecorder(settings.state_dir / "crashes")
    return Models(load_folder, options, store=store, registry=registry, by=by, crashes=crashes)


def version_info(manifest: Manifest, checksum: str) -> VersionInfo:
    """The description of a bundle for the registry."""
    return VersionInfo(
        labels=list(manifest.labels),
        height=manifest.input.height,
        width=manifest.input.width,
        output=manifest.output,
        architecture=manifest.architecture,
        metrics={name: metric.model_dump() for name, metric in manifest.metrics.items()},
        created_at=manifest.created_at or "",
        checksum=checksum,
    )


def _clock_text(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("at %H:%M:%S UTC")


def _size_of(folder: Path) -> int:
    """The size of the files of a bundle: an estimate of the memory of a version that was never loaded."""
    with suppress(OSError):
        return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return 0


def _memory_bytes() -> int:
    """The memory of this process; 0 where it is not known."""
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return 0
