"""The attacks. Each sends requests and returns what the service answered, together with what it may answer."""

import csv
import gzip
import io
import json
import re
import selectors
import socket
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import httpx

from contract.job import new_job_id
from tests.api.test_hostile import REQUESTS
from tests.hostile.images import costly_headers, costly_pixels, slow_png
from tests.hostile.target import Target
from tests.support.archives import special, tar_of
from tests.support.hostile import SUCCEEDED, corpus
from tests.support.images import draw
from tests.unit.gateway.test_archives import BOMBS

#: Attackers use another address than the honest client, where it reaches the service. Ports of containers are often
#: reached from 127.0.0.1 only, and macOS has no other address.
_ATTACKER_ADDRESS, _ONLY_ADDRESS = "127.0.0.2", "127.0.0.1"
_TAR = "application/x-tar"
_TIMEOUT_S = 180.0
#: A response to a request of any size may have this size.
_RESPONSE_MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class Answer:
    """The answer to one hostile request."""

    #: What was sent.
    request: str
    #: An HTTP status, optionally with a code; a job status; "closed" without a response; or "held": still open.
    got: str
    #: Whether the service may accept the request, because it is harmless. It may always refuse it.
    may_be_accepted: bool = False

    @property
    def verdict(self) -> str:
        """Whether the request was "refused", "accepted", "held", or "broken": answered as it must not be."""
        word = self.got.split()[0]
        if word in ("failed", "closed", "503") or re.fullmatch("4..", word):
            return "refused"
        if word == "held":
            return "held"
        is_success = word in ("succeeded", "canceled") or re.fullmatch("[23]..", word)
        return "accepted" if is_success and self.may_be_accepted else "broken"


@dataclass(frozen=True)
class Scale:
    """How much of everything is sent."""

    methods: int
    slow_connections: int
    silent_connections: int
    hold_s: float
    repeats: int
    submissions: int
    sign_ins: int
    links: int


FULL = Scale(
    methods=5000,
    slow_connections=80,
    silent_connections=4010,
    hold_s=40.0,
    repeats=4,
    submissions=10_500,
    sign_ins=1001,
    links=20_000,
)
SHORT = Scale(
    methods=200,
    slow_connections=20,
    silent_connections=200,
    hold_s=2.0,
    repeats=1,
    submissions=50,
    sign_ins=20,
    links=1000,
)

Attack = Callable[[Target, Scale], Iterable[Answer]]


def prepare(scale: Scale) -> None:
    """Create what the attacks send. Doing so takes seconds, in which others on the machine are slower."""
    _hostile_images()
    _costly_images(scale)
    _archives(scale)


def made_up_methods(target: Target, scale: Scale) -> Iterator[Answer]:
    """Requests with methods that do not exist, which must not become labels of metrics."""
    for number in range(scale.methods):
        yield Answer("made-up method", exchange(target.url, request_head(f"M{number}", "/v1/jobs", target.url)))


def raw_requests(target: Target, _: Scale) -> Iterator[Answer]:
    """Malformed and unusual requests."""
    for name, (pieces, status) in REQUESTS.items():
        head = pieces[0].replace(b"\r\nHost: ", f"\r\nX-API-Key: {target.attacker_key}\r\nHost: ".encode(), 1)
        got = exchange(target.url, head, *pieces[1:], end=status in (400, 413))
        yield Answer(name, got, may_be_accepted=status == 202)


def hostile_uploads(target: Target, _: Scale) -> Iterator[Answer]:
    """The images that the API tests send, too."""
    return _uploads(target, _hostile_images())


def costly_uploads(target: Target, scale: Scale) -> Iterator[Answer]:
    """Images with huge headers, and images whose pixels take much memory or time."""
    return _uploads(target, _costly_images(scale) * scale.repeats)


#: Name, bytes, whether the service may accept it, and file name.
_Image = tuple[str, bytes, bool, str]


@cache
def _hostile_images() -> list[_Image]:
    return [(item.name, item.data, SUCCEEDED in item.expected, item.file) for item in corpus()]


@cache
def _costly_images(scale: Scale) -> list[_Image]:
    slow = [("PNG of a million empty chunks", slow_png())] * scale.repeats
    return [(name, data, True, "x") for name, data in (*costly_headers(), *costly_pixels(), *slow)]


def _uploads(target: Target, images: Sequence[_Image]) -> Iterator[Answer]:
    with _client(target.url, target.attacker_key) as http, ThreadPoolExecutor(6) as pool:

        def upload(image: _Image) -> Answer:
            name, data, may_be_accepted, file = image
            part = {"file": (file, data)}
            got = _try(http, "POST", "/v1/jobs", _job_status, files=part, headers={"Prefer": "wait=60"})
            return Answer(name, got, may_be_accepted)

        yield from pool.map(upload, images)


def slow_sign_ins(target: Target, scale: Scale) -> Iterator[Answer]:
    """Sign-ins whose body arrives one byte at a time."""
    head = request_head("POST", "/sign-in", target.dashboard_url, "Content-Length: 1000", _FORM)
    return _hold(target.dashboard_url, "slow sign-in", [head] * scale.slow_connections, scale.hold_s, trickle=b"a")


def withheld_bodies(target: Target, scale: Scale) -> Iterator[Answer]:
    """Uploads of 20 MB whose end is withheld."""
    key = f"X-API-Key: {target.attacker_key}"
    head = request_head("POST", "/v1/jobs", target.url, key, "Content-Length: 19000000")
    request = head + draw() + bytes(18_000_000)
    return _hold(target.url, "withheld body", [request] * min(15, scale.slow_connections), scale.hold_s, trickle=b"\0")


def withheld_zips(target: Target, scale: Scale) -> Iterator[Answer]:
    """Zips of 2 GB, of which only the start arrives."""
    address = urlsplit(_open_submission(target)).path
    key = f"X-API-Key: {target.attacker_key}"
    kind = "Content-Type: application/zip"
    head = request_head("POST", f"{address}/jobs", target.url, key, kind, "Content-Length: 1999999999")
    return _hold(target.url, "withheld zip", [head + b"PK\3\4" + bytes(1_000_000)] * 6, scale.hold_s, trickle=b"\0")


def unfinished_heads(target: Target, scale: Scale) -> Iterator[Answer]:
    """Heads of 761 kB that never end."""
    head = request_head("GET", "/v1/status", target.url)[:-2] + b"".join(
        b"X-%d: %s\r\n" % (number, b"a" * 7600) for number in range(100)
    )
    return _hold(target.url, "unfinished head", [head] * scale.slow_connections, scale.hold_s, trickle=b"a")


def silent_connections(target: Target, scale: Scale) -> Iterator[Answer]:
    """Connections on which nothing is ever sent."""
    return _hold(target.url, "silent connection", [b""] * scale.silent_connections, scale.hold_s)


def _hold(url: str, what: str, requests: Sequence[bytes], hold_s: float, trickle: bytes = b"") -> Iterator[Answer]:
    """Send the requests at once, then `trickle` once a second; report what came back until `hold_s` have passed."""
    answers: list[str] = []
    with selectors.DefaultSelector() as selector:
        for request in requests:
            try:
                connection = _connect(url, timeout_s=5)
            except OSError:
                answers.append("closed")
                continue
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE, bytearray(request))
        end_s = trickle_s = time.monotonic()
        end_s += hold_s
        while (now_s := time.monotonic()) < end_s and selector.get_map():
            if trickle and now_s >= trickle_s:
                trickle_s = now_s + 1
                for key in list(selector.get_map().values()):
                    key.data.extend(trickle)
                    selector.modify(key.fileobj, selectors.EVENT_READ | selectors.EVENT_WRITE, key.data)
            for key, events in selector.select(0.2):
                answer = _advance(selector, key, events)
                if answer:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()  # type: ignore[union-attr]
                    answers.append(answer)
        for key in list(selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
            answers.append("held")
    return (Answer(what, got) for got in answers)


def _advance(selector: selectors.BaseSelector, key: selectors.SelectorKey, events: int) -> str:
    """Read and write what is possible; returns the answer, or nothing yet."""
    connection: Any = key.fileobj
    try:
        if events & selectors.EVENT_READ:
            return _status(connection.recv(65_536))
        del key.data[: connection.send(key.data[:1_000_000])]
    except OSError:
        return "closed"
    selector.modify(connection, selectors.EVENT_READ | (selectors.EVENT_WRITE if key.data else 0), key.data)
    return ""


def archives(target: Target, scale: Scale) -> Iterator[Answer]:
    """Archives that unpack to far more than they are, or whose members have names of a megabyte."""
    address, bodies = _open_submission(target), _archives(scale)
    with _client(target.url, target.attacker_key) as http, ThreadPoolExecutor(4) as pool:

        def send(name: str) -> Answer:
            kind, body = bodies[name]
            got = _try(http, "POST", f"{address}/jobs", content=body, headers={"Content-Type": kind})
            return Answer(name, got, may_be_accepted=True)

        yield from pool.map(send, [*bodies] * scale.repeats)


@cache
def _archives(scale: Scale) -> dict[str, tuple[str, bytes]]:
    """Content type and bytes by name."""
    bodies = {name: (kind, make()) for name, (kind, make, _) in BOMBS.items()}
    bodies["100 links with names of 0.9 MB"] = (_TAR, gzip.compress(_links(100, 900_000)))
    bodies[f"{scale.links:,} links with names of 200 bytes"] = (_TAR, gzip.compress(_links(scale.links, 200)))
    return bodies


def _links(count: int, name_bytes: int) -> bytes:
    names = [f"{number}{'n' * name_bytes}" for number in range(count)]
    return tar_of({name: special(name, tarfile.SYMTYPE, "/etc/passwd") for name in names})


def odd_json(target: Target, _: Scale) -> Iterator[Answer]:
    """JSON that is deep, long, or of the wrong types."""
    bodies = {
        "deep list": "[" * 100_000,
        "deep object": '{"name":' * 50_000,
        "long name": json.dumps({"name": "n" * 2_000_000}),
        "long number": '{"deadline_s": ' + "9" * 100_000 + "}",
        "not a number": '{"deadline_s": NaN}',
        "wrong types": '{"name": {}, "queue": [], "deadline_s": "x"}',
        "100,000 members": json.dumps({str(number): number for number in range(100_000)}),
    }
    with _client(target.url, target.attacker_key) as http:
        for name, body in bodies.items():
            headers = {"Content-Type": "application/json"}
            yield Answer(name, _try(http, "POST", "/v1/submissions", content=body, headers=headers))


def many_submissions(target: Target, scale: Scale) -> Iterator[Answer]:
    """Opens submissions as fast as possible."""
    with _client(target.url, target.attacker_key) as http, ThreadPoolExecutor(8) as pool:
        for got in pool.map(lambda _: _try(http, "POST", "/v1/submissions", json={}), range(scale.submissions)):
            yield Answer("opened submission", got, may_be_accepted=True)


def sign_in_forms(target: Target, _: Scale) -> Iterator[Answer]:
    """Sign-ins with a file of 20 MB, and with a long key."""
    with _client(target.dashboard_url, "") as http:
        yield Answer("file", _try(http, "POST", "/sign-in", files={"api_key": ("x", bytes(20_000_000))}))
        yield Answer("long key", _try(http, "POST", "/sign-in", data={"api_key": "k" * 1_000_000}))
        yield Answer("wrong key", _try(http, "POST", "/sign-in", data={"api_key": "pq_0_0"}))


def stolen_dashboard(target: Target, _: Scale) -> Iterator[Answer]:
    """The dashboard's pages and callbacks without a session."""
    with _client(target.dashboard_url, "") as http:
        http.headers["Accept"] = "application/json"  # browsers are redirected to the sign-in page
        for path in ("/_dash-layout", "/_dash-dependencies", "/predictions.csv", "/thumbnails/x", "/capacity"):
            yield Answer(path, _try(http, "GET", path))
        yield Answer("callback", _try(http, "POST", "/_dash-update-component", json={"output": "content.children"}))


def many_sign_ins(target: Target, scale: Scale) -> Iterator[Answer]:
    """More sign-ins with one API key than the dashboard keeps sessions; another key's session must survive."""
    with _client(target.dashboard_url, "") as victim, _client(target.dashboard_url, "") as attacker:
        victim.post("/sign-in", data={"api_key": target.victim_key})
        for _number in range(scale.sign_ins):
            attacker.cookies.clear()
            yield Answer("sign-in", _try(attacker, "POST", "/sign-in", data={"api_key": target.attacker_key}), True)
        got = _try(victim, "GET", "/_dash-layout")
        yield Answer("another key's session", got if got == "200" else f"ended: {got}", may_be_accepted=True)


def other_owners(target: Target, _: Scale) -> Iterator[Answer]:
    """Requests for the jobs and submissions of another client, by their ids."""
    with _client(target.url, target.victim_key) as victim, _client(target.url, target.attacker_key) as attacker:
        job = victim.post("/v1/jobs", content=draw()).json()
        submission = urlsplit(victim.post("/v1/submissions", json={}).headers["Location"]).path
        for path in (f"/v1/jobs/{job['id']}", submission, f"{submission}/results"):
            yield Answer(f"GET {path}", _try(attacker, "GET", path))
        for path in (
            f"/v1/jobs/{job['id']}",
            f"/v1/jobs/{job['id']}?purge=true",
            submission,
            f"{submission}?purge=true",
        ):
            yield Answer(f"DELETE {path}", _try(attacker, "DELETE", path))
        yield Answer("images for it", _try(attacker, "POST", f"{submission}/jobs", files={"file": ("a.png", draw())}))
        yield Answer("close it", _try(attacker, "POST", f"{submission}/close"))
        yield Answer("dead letters", _try(attacker, "GET", "/v1/dead"))
        got = _try(victim, "GET", f"/v1/jobs/{job['id']}")
        yield Answer("its owner reads it", got if got == "200" else f"lost: {got}", may_be_accepted=True)


def occupied_ids(target: Target, _: Scale) -> Iterator[Answer]:
    """Ids that the attacker uses first, and that another client must nevertheless be able to use."""
    with _client(target.url, target.victim_key) as victim, _client(target.url, target.attacker_key) as attacker:
        for path, own, others in (
            (f"/v1/jobs/{new_job_id()}", {"content": draw(color=(1, 2, 3))}, {"content": draw()}),
            (f"/v1/submissions/{new_job_id()}", {"json": {"name": "mine"}}, {"json": {"name": "theirs"}}),
        ):
            yield Answer(f"PUT {path}", _try(attacker, "PUT", path, **own), may_be_accepted=True)
            got = _try(victim, "PUT", path, **others)
            yield Answer(
                "PUT by another client", got if got.startswith("2") else f"blocked: {got}", may_be_accepted=True
            )


_FORMULAS = (
    "=1+1.png",
    "x;=1+1;.png",
    "x,=1+1,.png",
    "x\t=1+1.png",
    "x\n=1+1.png",
    "\uff1d1+1.png",
    "@x.png",
    "-1.png",
)


def formulas(target: Target, _: Scale) -> Iterator[Answer]:
    """File names that a spreadsheet would take for formulas."""
    # The attacker may have as many open submissions as its key allows.
    with _client(target.url, target.victim_key) as http:
        address = urlsplit(http.post("/v1/submissions", json={}).headers["Location"]).path
        http.post(f"{address}/jobs", content=tar_of(dict.fromkeys(_FORMULAS, draw())), headers={"Content-Type": _TAR})
        http.post(f"{address}/close")
        http.get(address, headers={"Prefer": "wait=60"})
        text = http.get(f"{address}/results?format=csv").text
    for delimiter in (",", ";", "\t"):
        cells = [cell for row in csv.reader(io.StringIO(text), delimiter=delimiter) for cell in row]
        found = [cell for cell in cells if re.match("[=+\\-@\uff1d\uff0b\uff0d\uff20]", cell)]
        yield Answer(f"cells between {delimiter!r}", f"formula {found[0]!r}" if found else "200", may_be_accepted=True)


def foreign_pages(target: Target, _: Scale) -> Iterator[Answer]:
    """Requests that a web page elsewhere could make a browser send."""
    evil = {"Origin": "http://evil.example"}
    with _client(target.dashboard_url, "") as http:
        yield Answer("sign-in", _try(http, "POST", "/sign-in", data={"api_key": target.attacker_key}, headers=evil))
    if not target.open_url:
        return
    with _client(target.open_url, "") as http:
        for name, headers in {
            "rebound name": {"Host": "evil.example"},
            "form of another page": evil,
            "form of a sandboxed page": {"Origin": "null"},
            "cross-site": {"Sec-Fetch-Site": "cross-site"},
        }.items():
            yield Answer(name, _try(http, "POST", "/v1/jobs", content=draw(), headers=headers))
        yield Answer("read by a rebound name", _try(http, "GET", "/v1/status", headers={"Host": "evil.example"}))


def published_metrics(target: Target, _: Scale) -> Iterator[Answer]:
    """The metrics, at the address of the API."""
    yield Answer("/metrics", exchange(target.url, request_head("GET", "/metrics", target.url)))


#: All attacks by name, in the order in which they run.
ATTACKS: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (
        made_up_methods,
        raw_requests,
        hostile_uploads,
        costly_uploads,
        archives,
        odd_json,
        slow_sign_ins,
        withheld_bodies,
        withheld_zips,
        unfinished_heads,
        silent_connections,
        many_submissions,
        sign_in_forms,
        stolen_dashboard,
        many_sign_ins,
        other_owners,
        occupied_ids,
        formulas,
        foreign_pages,
        published_metrics,
    )
}

_FORM = "Content-Type: application/x-www-form-urlencoded"


def request_head(method: str, path: str, url: str, *headers: str) -> bytes:
    """The head of a request."""
    return "\r\n".join((f"{method} {path} HTTP/1.1", f"Host: {urlsplit(url).netloc}", *headers, "", "")).encode()


def exchange(url: str, *pieces: bytes, end: bool = False) -> str:
    """Send raw bytes on a new connection, and shut down the sending side if `end`; returns the status, or "closed"."""
    try:
        with _connect(url, _TIMEOUT_S) as connection:
            with suppress(OSError):  # the response may arrive before everything is sent
                for piece in pieces:
                    connection.sendall(piece)
                if end:
                    connection.shutdown(socket.SHUT_WR)
            return _status(connection.recv(65_536))
    except TimeoutError:
        return f"no response within {_TIMEOUT_S:g} s"
    except OSError:
        return "closed"


def _connect(url: str, timeout_s: float) -> socket.socket:
    return _connect_from(_address_for(url), url, timeout_s)


@cache
def _address_for(url: str) -> str:
    with suppress(OSError), _connect_from(_ATTACKER_ADDRESS, url, 5):
        return _ATTACKER_ADDRESS
    return _ONLY_ADDRESS


def _connect_from(address: str, url: str, timeout_s: float) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout_s, source_address=(address, 0))


def _status(response: bytes) -> str:
    """The HTTP status at the start of a response; "closed" if it is empty."""
    return response.split(b" ")[1].decode() if response.startswith(b"HTTP/1.1 ") else "closed"


def _client(url: str, key: str) -> httpx.Client:
    headers = {"X-API-Key": key} if key else {}
    transport = httpx.HTTPTransport(local_address=_address_for(url))
    return httpx.Client(base_url=url, timeout=_TIMEOUT_S, headers=headers, transport=transport)


def _plain_status(response: httpx.Response) -> str:
    size = len(response.content)
    return str(response.status_code) if size < _RESPONSE_MAX_BYTES else f"response of {size:,} bytes"


def _job_status(response: httpx.Response) -> str:
    return str(response.json()["status"]) if response.status_code == 200 else str(response.status_code)


def _try(
    http: httpx.Client,
    method: str,
    path: str,
    read: Callable[[httpx.Response], str] = _plain_status,
    **request: Any,
) -> str:
    """Send a request; returns what `read` makes of the response, or "closed"."""
    try:
        return read(http.request(method, path, **request))
    except httpx.TimeoutException:
        return f"no response within {_TIMEOUT_S:g} s"
    except httpx.TransportError:
        return "closed"


def _open_submission(target: Target) -> str:
    with _client(target.url, target.attacker_key) as http:
        return str(http.post("/v1/submissions", json={}).headers["Location"])
