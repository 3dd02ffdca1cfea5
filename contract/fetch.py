"""Images at an address instead of in a request: from hosts and buckets that an operator allows, within limits."""

import re
import time
from dataclasses import dataclass
from urllib.parse import unquote, urljoin, urlsplit

from contract.destinations import Allowed, Destinations, ForbiddenUrlError, parse_allowed
from contract.outbound import Outbound, OutboundError

#: How many redirects are followed.
_REDIRECTS_MAX = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: Statuses with which the same request may succeed later, besides those of the server's errors.
_PASSING = frozenset({408, 425, 429})
_SERVER_ERROR = 500
#: Object stores. fsspec knows others too, which could read files and commands of the worker.
_BUCKET_SCHEMES = frozenset({"s3", "gs", "gcs", "az", "abfs"})
_SETTING = "PAWQUEUE_FETCH_ALLOW"


class FetchError(Exception):
    """An image could not be fetched; the message says why."""

    def __init__(self, message: str, *, may_pass: bool = False) -> None:
        super().__init__(message)
        #: Whether the next try may succeed.
        self.may_pass = may_pass


def is_address(ref: str) -> bool:
    """Whether a reference of an image is the address at which it has to be fetched."""
    return "://" in ref


def name_of(address: str) -> str:
    """What to show of an address: its query may contain a signature."""
    parts = urlsplit(address)
    return unquote(parts.path.rstrip("/").rpartition("/")[2]) or parts.netloc


@dataclass(frozen=True)
class FetchRules:
    """From which hosts and buckets images may be fetched; none if both are empty."""

    hosts: frozenset[str] = frozenset()
    #: Endings of host names, each with a dot at its start.
    domains: tuple[str, ...] = ()
    #: Starts of addresses in object stores, each with a slash at its end.
    buckets: tuple[str, ...] = ()
    #: Networks that are allowed although they are not public.
    networks: tuple[Allowed, ...] = ()

    @property
    def destinations(self) -> Destinations:
        """Which addresses may be reached."""
        return Destinations(self.networks, _SETTING)

    def __bool__(self) -> bool:
        return bool(self.hosts or self.domains or self.buckets)

    def check(self, address: str) -> None:
        """Check an address without resolving its name.

        Raises:
            FetchError: images are never fetched from there.
        """
        scheme, separator, _ = address.partition("://")
        if not self:
            raise FetchError(
                f"This service fetches no images. An operator can allow hosts and buckets with {_SETTING}."
            )
        if separator and scheme in _BUCKET_SCHEMES:
            if ".." in address.split("/") or not address.startswith(self.buckets):
                raise _not_allowed(address.partition("://")[2].partition("/")[0])
            return
        try:
            self.destinations.check_url(address)
        except ForbiddenUrlError as error:
            raise FetchError(str(error)) from None
        host = (urlsplit(address).hostname or "").rstrip(".")
        if host not in self.hosts and not host.endswith(self.domains or ("\0",)):
            raise _not_allowed(host)


def parse_fetch_rules(text: str) -> FetchRules:
    """Read hosts, `*.DOMAIN`, `SCHEME://BUCKET[/PREFIX]` and private networks, separated by commas.

    Raises:
        ValueError: an item is none of these.
    """
    hosts, domains, buckets, networks = set(), [], [], []
    for item in filter(None, (part.strip().lower() if "://" not in part else part.strip() for part in text.split(","))):
        if re.search(r"\s", item):
            raise ValueError(f"{item!r} contains a space")
        if "://" in item:
            if item.partition("://")[0] not in _BUCKET_SCHEMES:
                raise ValueError(f"{item!r}: name a host without a scheme, or a bucket, as in s3://bucket/prefix")
            buckets.append(item.rstrip("/") + "/")
        elif item.startswith("*."):
            domains.append(item[1:])
        else:
            (allowed,) = parse_allowed(item)
            if allowed.network is not None:
                networks.append(allowed)
            if "/" not in item:
                hosts.add(urlsplit(f"//{item}").hostname or item)
    return FetchRules(frozenset(hosts), tuple(domains), tuple(buckets), tuple(networks))


class Fetcher:
    """Fetches images; safe to share between threads."""

    def __init__(self, rules: FetchRules, max_bytes: int, timeout_s: float, outbound: Outbound | None = None) -> None:
        self._rules = rules
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._outbound = outbound or Outbound(rules.destinations)

    def fetch(self, address: str) -> bytes:
        """Fetch an image.

        Raises:
            FetchError: it is not there or not allowed, is too large, or takes too long.
        """
        self._rules.check(address)
        if address.partition("://")[0] in _BUCKET_SCHEMES:
            data = _read_object(address, self._max_bytes + 1)
        else:
            data = self._get(address)
        if len(data) > self._max_bytes:
            raise FetchError(f"It is larger than the limit of {self._max_bytes:,} bytes.")
        if not data:
            raise FetchError("It is empty.")
        return data

    def _get(self, url: str) -> bytes:
        end_s = time.monotonic() + self._timeout_s
        for _ in range(_REDIRECTS_MAX + 1):
            try:
                found = self._outbound.get(url, self._max_bytes + 1, max(end_s - time.monotonic(), 0.001))
            except ForbiddenUrlError as error:
                raise FetchError(str(error)) from None
            except OutboundError as error:
                raise FetchError(str(error), may_pass=True) from None
            if found.status == _OK:
                return found.body
            if found.status not in _REDIRECTS or not found.location:
                may_pass = found.status >= _SERVER_ERROR or found.status in _PASSING
                raise FetchError(f"The server returned status {found.status}.", may_pass=may_pass)
            try:
                url = urljoin(url, found.location)
            except ValueError:
                raise FetchError("The server redirects to an address that is not valid.") from None
            self._rules.check(url)
        raise FetchError(f"There are more than {_REDIRECTS_MAX} redirects.")


_OK = 200


def _read_object(address: str, max_bytes: int) -> bytes:
    """Read an object of a bucket, with the credentials of the environment."""
    import fsspec  # noqa: PLC0415 - slow to import, and only buckets need it

    try:
        with fsspec.open(address, "rb") as file:
            return bytes(file.read(max_bytes))
    except FileNotFoundError:
        raise FetchError("There is no such object.") from None
    except PermissionError:
        raise FetchError("The bucket denies access.") from None
    except (ImportError, ValueError) as error:
        raise FetchError(f"The worker has no driver for this bucket ({error}).") from None
    # Drivers raise errors of their libraries, whose messages can contain a signed URL.
    except Exception as error:  # noqa: BLE001
        raise FetchError(f"The bucket cannot be read ({type(error).__name__}).", may_pass=True) from None


def _not_allowed(place: str) -> FetchError:
    return FetchError(f"Images are not fetched from {place}. An operator can allow it with {_SETTING}.")
