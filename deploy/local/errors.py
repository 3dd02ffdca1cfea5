"""Errors whose message tells the user what to do."""


class LocalError(Exception):
    """The services could not be started, or failed."""

    exit_status = 1


class UsageError(LocalError):
    """The user must change something first, such as a port in use or a missing folder."""

    exit_status = 2
