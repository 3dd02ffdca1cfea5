"""The one error of this package: a problem that its reader can solve."""


class LocalError(Exception):
    """Something is missing or in the way; the text says what, and what to do about it."""
