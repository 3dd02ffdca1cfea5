"""The pages: address, title, cards, and what these show a viewer of a snapshot, made once for all who see the same."""

import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from plotly.io.json import to_json_plotly as to_json

from dashboard.card import Content, Spec
from dashboard.components import values
from dashboard.job_rows import filters_of, search_of
from dashboard.snapshot import Snapshot
from dashboard.viewers import Viewer
from dashboard.views import capacity, drift, live, models, predictions

Contents = Mapping[str, Content]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page:
    """One page; `make` gets the snapshot, the viewer and the query of the address."""

    name: str
    path: str
    title: str
    lead: str
    specs: tuple[Spec, ...] = ()
    make: Callable[[Snapshot, Viewer, str], Contents] = lambda _snapshot, _viewer, _search: {}


def _predictions(snapshot: Snapshot, viewer: Viewer, search: str) -> Contents:
    rows = predictions.shown(viewer.own(snapshot.jobs), filters_of(search), snapshot.at_s)
    return predictions.contents(snapshot, rows)


PAGES = (
    Page(
        "live",
        "/",
        "Live",
        "What comes in, waits, runs and ends just now.",
        live.SPECS,
        lambda s, _v, _q: live.contents(s),
    ),
    Page(
        "predictions",
        "/predictions",
        "Predictions",
        "What the model said, newest first.",
        predictions.SPECS,
        _predictions,
    ),
    Page("try", "/try", "Try it", "Drop images and see what becomes of them."),
    Page(
        "models",
        "/models",
        "Models",
        "The served bundle and training runs.",
        models.SPECS,
        lambda s, _v, _q: models.contents(s),
    ),
    Page(
        "drift",
        "/drift",
        "Drift",
        "Live images against those of training.",
        drift.SPECS,
        lambda s, v, _q: drift.contents(s, v.own(s.jobs)),
    ),
    Page(
        "capacity",
        "/capacity",
        "Capacity",
        "What the workers can do.",
        capacity.SPECS,
        lambda s, _v, _q: capacity.contents(s),
    ),
)
BY_PATH = {page.path: page for page in PAGES}

_KEPT_MAX = 64


class _Slot:
    """One thing that is made once: by the first who asks, while others who want the same wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: list[Any] = []

    def get(self, make: Callable[[], Any]) -> Any:
        with self._lock:
            if not self._made:
                self._made.append(make())
            return self._made[0]


class Maker:
    """Makes things once a snapshot, whatever the number of viewers; safe to share between threads.

    What viewers asked for is made of the next snapshot before they see it, by whoever calls `renew`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: Sequence of a snapshot -> what was made of it, by key.
        self._slots: dict[int, dict[tuple[str, ...], _Slot]] = {}
        #: How to make what was asked for since the last `renew`.
        self._asked: dict[tuple[str, ...], Callable[[Snapshot], Any]] = {}

    def once(self, snapshot: Snapshot, key: tuple[str, ...], make: Callable[[Snapshot], T]) -> T:
        """What `make` gives for this snapshot; `key` tells it from what else is made of the snapshot."""
        with self._lock:
            self._asked[key] = make
            slot = self._slot(snapshot.sequence, key)
        made: T = slot.get(lambda: make(snapshot))  # without the lock: what takes long keeps nobody else waiting
        return made

    def renew(self, snapshot: Snapshot) -> None:
        """Make of a new snapshot what was asked of the last one."""
        with self._lock:
            wanted, self._asked = list(self._asked.items())[-_KEPT_MAX:], {}
            slots = [(self._slot(snapshot.sequence, key), make) for key, make in wanted]
        for slot, make in slots:
            with suppress(Exception):  # whoever asks for it is to meet the error, and nobody else
                slot.get(partial(make, snapshot))

    def contents(self, page: Page, snapshot: Snapshot, viewer: Viewer, search: str = "") -> Contents:
        """What the cards of the page show."""
        key = ("contents", page.name, viewer.scope, _filters(page, search))
        return self.once(snapshot, key, lambda of: page.make(of, viewer, search))

    def values(self, page: Page, snapshot: Snapshot, viewer: Viewer, search: str = "") -> list[Any]:
        """What a refresh of the page sends: plain values, which cost little to write out for each viewer."""
        key = (page.name, viewer.scope, _filters(page, search))
        return self.once(snapshot, key, lambda of: _values(page, of, viewer, search))

    def _slot(self, sequence: int, key: tuple[str, ...]) -> _Slot:
        """A place of a snapshot; of older ones only the one before is kept, which some may still be reading."""
        self._slots = {one: slots for one, slots in self._slots.items() if sequence - one in (0, 1, -1)}
        slots = self._slots.setdefault(sequence, {})
        if len(slots) >= _KEPT_MAX and key not in slots:
            slots.clear()
        return slots.setdefault(key, _Slot())


def _filters(page: Page, search: str) -> str:
    return search_of(filters_of(search)) if page.name == "predictions" else ""


def _values(page: Page, snapshot: Snapshot, viewer: Viewer, search: str) -> list[Any]:
    contents = page.make(snapshot, viewer, search)
    return [plain(value) for spec in page.specs for value in values(spec, contents[spec.id])]


def plain(value: Any) -> Any:
    """Components as the dictionaries that Dash would write out for every viewer anew."""
    return json.loads(str(to_json(value)))
