"""Errors whose message tells the user what to do."""


class LocalError(Exception):
    """Something is missing or failed."""

    exit_status = 1


class UsageError(LocalError):
    """Something prevents the start, such as a port in use or a missing folder."""

    exit_status = 2
