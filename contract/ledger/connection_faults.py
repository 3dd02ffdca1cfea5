"""Why no connection to a Redis can be made: wrong address, password or database, TLS, or another program."""

import re
import socket
import ssl
from typing import Any
from urllib.parse import urlsplit

import redis

from contract.ledger.types import Fault

_PROBE_TIMEOUT_S = 1.0
#: First byte of a reply to a client that does not use TLS.
_TLS_ALERT = b"\x15"


def connection_fault(url: str, variable: str, error: Exception) -> Fault | None:
    """What to correct, in Redis or in `variable`, after connecting to `url` raised `error`.

    None if nothing indicates a mistake: Redis is not running, or the network is down.
    """
    if isinstance(error, TypeError | ValueError):  # its text may contain a part of the password
        return Fault("cannot be reached: its URL has an invalid part", f"Correct {variable}.")
    return _reply_fault(url, variable, error) or _transport_fault(url, variable, error)


def _reply_fault(url: str, variable: str, error: Exception) -> Fault | None:
    """The fault that an error reply of Redis describes; None if there was no reply."""
    text, correct = str(error).rstrip("."), f"Correct {variable}."
    if not isinstance(error, redis.AuthenticationError | redis.ResponseError):
        return None
    if "HELLO must be called" in text or "Authentication required" in text:
        return Fault("requires a password", f"Write it into {variable}: redis://:PASSWORD@HOST:PORT/NUMBER.")
    if isinstance(error, redis.AuthenticationError):
        return Fault("rejects the user name or the password", correct)
    if "DB index" in text or "out of range" in text:
        number = urlsplit(url).path.removeprefix("/")
        return Fault(f"has no database {number}", f"Use a lower number in {variable}, such as 0.")
    remedies = {
        "protected mode": "Set a password in Redis.",
        "'select'": "Use database 0, or allow the command with `ACL SETUSER`.",
    }
    remedy = next((remedy for part, remedy in remedies.items() if part in text), correct)
    return Fault(f"rejects the connection ({text})", remedy)


def _transport_fault(url: str, variable: str, error: Exception) -> Fault | None:
    """The fault that shows in how the connection fails, or in what else listens at the address."""
    parts, cause = urlsplit(url), error.__cause__ or error.__context__
    uses_tls, correct = parts.scheme == "rediss", f"Correct {variable}."
    if parts.scheme == "unix" and isinstance(cause, PermissionError):
        return Fault("belongs to another user", "Run this as the user who runs `make up`.")
    if isinstance(cause, ssl.SSLCertVerificationError):
        text = f"has a certificate that cannot be verified ({cause.verify_message.rstrip('.')})"
        return Fault(text, f"Add ?ssl_ca_certs=FILE to {variable}, or correct the host name.")
    if uses_tls and isinstance(cause, FileNotFoundError | PermissionError):
        return Fault(f"cannot be reached: a file named in its URL is unreadable ({cause.strerror})", correct)
    found = "other" if isinstance(error, redis.InvalidResponse) else _protocol_at(parts)
    faults = {
        ("other", uses_tls): Fault("cannot be reached: another program listens at its address", correct),
        ("tls", False): Fault("requires TLS", f"Write rediss:// instead of redis:// in {variable}."),
        ("redis", True): Fault("does not use TLS", f"Write redis:// instead of rediss:// in {variable}."),
    }
    if (found, uses_tls) == ("tls", True) and isinstance(cause, ssl.SSLError):
        add = f"If it requires a client certificate, add ?ssl_certfile=FILE&ssl_keyfile=FILE to {variable}."
        return Fault(f"rejects the TLS connection ({cause.strerror or cause})", add)
    return faults.get((found, uses_tls))


def _protocol_at(parts: Any) -> str:
    """What listens at an address: `redis`, `tls`, `other`, or an empty string for nothing that replies."""
    if parts.scheme == "unix":
        return ""
    address = (parts.hostname or "localhost", parts.port or 6379)
    try:
        with socket.create_connection(address, _PROBE_TIMEOUT_S) as plain:
            reply = _reply_to_ping(plain)
        if reply and reply[:1] != _TLS_ALERT:
            return "redis" if re.match(rb"[+-][A-Z]", reply) else "other"
        with socket.create_connection(address, _PROBE_TIMEOUT_S) as plain, _any_certificate().wrap_socket(plain):
            return "tls"
    except OSError:
        return ""


def _reply_to_ping(plain: socket.socket) -> bytes:
    try:
        plain.sendall(b"PING\r\n\r\n")
        return plain.recv(64)
    except OSError:
        return b""


def _any_certificate() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
