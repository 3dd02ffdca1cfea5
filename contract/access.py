"""Who may do what: the scopes of an API key, and whom a request comes from. Gateway and dashboard check with it."""

from enum import StrEnum


class Scope(StrEnum):
    """What an API key may be used for."""

    #: Send pictures, cancel one's own jobs.
    SUBMIT = "submit"
    #: Read one's own jobs.
    READ = "read"
    #: Look at everybody's dead letters, and at the dashboard.
    ADMIN = "admin"
