"""The errors of this package: each is a problem that its reader can solve."""


class LocalError(Exception):
    """Something is missing or does not work; the text says what, and what to do about it."""

    exit_status = 1


class UsageError(LocalError):
    """Something is in the way before anything was started: a taken port, a folder that is not there."""

    exit_status = 2
