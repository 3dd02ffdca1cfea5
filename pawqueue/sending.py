"""Sends the files of a run: a few threads, each with one request of up to a hundred images under way."""

import threading
from collections.abc import Callable, Iterator, Sequence

from pawqueue.deadline import Deadline, pause_s
from pawqueue.errors import ClientError, RefusedError
from pawqueue.image import LoadedImage, read_image
from pawqueue.results import REFUSED, UNREADABLE, Row
from pawqueue.run_state import Entry, RunState
from pawqueue.submissions import Submissions, Taken

#: A request holds so many images, or so many bytes of them, whichever comes first.
MOST_IMAGES, MOST_BYTES = 100, 8_000_000

#: Refusals that are about what was sent: a smaller part of it may pass.
_ABOUT_THE_IMAGES = frozenset({400, 413, 415, 422})


class Sending:
    """The senders of one run; each file's fate is written into `state`."""

    def __init__(
        self,
        submissions: Submissions,
        state: RunState,
        submission_id: str,
        deadline: Deadline,
        is_served: Callable[[Deadline], bool],
    ) -> None:
        self._submissions = submissions
        self._state = state
        self._submission_id = submission_id
        self._deadline = deadline
        self._is_served = is_served
        self._lock = threading.Lock()
        self._position = 0
        self._news: list[tuple[int, Row]] = []
        self._threads: list[threading.Thread] = []
        #: Until it has passed nothing is sent.
        self._held = Deadline(0)
        #: What ended a sender; the others end with it.
        self.fault: Exception | None = None

    def start(self, senders: int) -> None:
        """Begin."""
        self._threads = [threading.Thread(target=self._work, name=f"sender-{n}", daemon=True) for n in range(senders)]
        for thread in self._threads:
            thread.start()

    def join(self, seconds: float) -> None:
        """Wait for the senders to end, for so long at most."""
        end = Deadline(seconds)
        for thread in self._threads:
            thread.join(end.remaining_s())

    @property
    def is_over(self) -> bool:
        """Whether every sender has ended."""
        return not any(thread.is_alive() for thread in self._threads)

    def news(self) -> list[tuple[int, Row]]:
        """Files that became no job, since this was last asked."""
        with self._lock:
            news, self._news = self._news, []
        return news

    def _work(self) -> None:
        try:
            while self.fault is None and (entries := self._next()):
                for images in self._loaded(entries):
                    self._send(images)
        # Whatever it is, the thread that follows the run must hear of it.
        except Exception as error:  # noqa: BLE001
            self.fault = error

    def _next(self) -> list[Entry]:
        with self._lock:
            if self._deadline.canceled:
                return []
            entries = self._state.to_send(self._position, MOST_IMAGES)
            self._position = entries[-1].index if entries else self._position
            return entries

    def _loaded(self, entries: Sequence[Entry]) -> Iterator[list[LoadedImage]]:
        """Read the files, and yield them in parts of bounded size; one that is large goes alone."""
        part: list[LoadedImage] = []
        for entry in entries:
            try:
                image = read_image(entry.index, entry.custom_id, entry.path)
            except OSError as error:
                why = error.strerror or str(error)
                self._ended(entry.index, Row("", status=UNREADABLE, error_code=UNREADABLE, error=why))
                continue
            if part and sum(item.size_bytes for item in part) + image.size_bytes > MOST_BYTES:
                yield part
                part = []
            part.append(image)
        if part:
            yield part

    def _send(self, images: list[LoadedImage]) -> None:
        # First: a run that dies before the answer must know what it may have sent.
        self._state.sending(images)
        tries = 0
        while images and self._may_go_on():
            try:
                taken = self._submissions.add(self._submission_id, images, self._deadline)
            except RefusedError as error:
                self._refused(images, error)
                return
            except OSError as error:
                self._unreadable(images, error.strerror or str(error))
                return
            left = self._note(images, taken)
            tries = 0 if len(left) < len(images) else tries + 1
            if left:
                self._hold(pause_s(max(tries, 1), taken.retry_after_s), taken)
            images = left

    def _may_go_on(self) -> bool:
        """Wait while the gateway wants nothing; whether there is any sense in sending then."""
        held_s = self._held.remaining_s()
        if held_s:
            self._deadline.pause(held_s)
        return not self._deadline.canceled and self.fault is None

    def _hold(self, seconds: float, taken: Taken) -> None:
        """Keep every sender from sending for a while; the gateway is full."""
        if self._is_served(self._deadline):
            self._deadline.renew()
        if seconds >= self._deadline.remaining_s():
            raise ClientError(f"The gateway stayed busy for too long: {taken.reason or 'it took no images.'}")
        self._held = Deadline(seconds)

    def _note(self, images: list[LoadedImage], taken: Taken) -> list[LoadedImage]:
        """Write down what the gateway said of each; returns those of which it said nothing."""
        accepted = [image for image in images if image.custom_id in taken.accepted]
        self._state.sent(accepted)
        left = []
        for image in images:
            if said := taken.rejected.get(image.custom_id):
                self._refuse(image, said.code, said.detail)
            elif image.custom_id not in taken.accepted:
                left.append(image)
        if len(left) < len(images):
            self._deadline.renew()
        return left

    def _refused(self, images: list[LoadedImage], error: RefusedError) -> None:
        """Find out, by halves, which of the images the gateway will not have."""
        if error.status not in _ABOUT_THE_IMAGES:
            raise error
        if len(images) > 1:
            self._send(images[: len(images) // 2])
            self._send(images[len(images) // 2 :])
        else:
            self._refuse(images[0], error.code, error.detail)

    def _unreadable(self, images: list[LoadedImage], why: str) -> None:
        """A large file could not be read to its end; it went alone, since it is larger than a part may be."""
        for image in images:
            self._ended(image.index, Row("", status=UNREADABLE, error_code=UNREADABLE, error=why))

    def _refuse(self, image: LoadedImage, code: str, detail: str) -> None:
        self._ended(image.index, Row("", status=REFUSED, error_code=code, error=detail))

    def _ended(self, index: int, row: Row) -> None:
        named = self._state.ended(index, row)
        if named:
            with self._lock:
                self._news.append((index, named))
        self._deadline.renew()
