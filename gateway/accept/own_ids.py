"""Ids that clients choose, or that follow from what they send, for several owners at once."""

import hmac

from contract.job import uuid_of_digest
from contract.ledger.ledger import Ledger


class OwnIds:
    """Gives each owner a replacement for an id that another owner uses.

    Clients choose ids of jobs and submissions, and the ids of a submission's images can be computed from its id.
    Without a replacement, a client could take the ids that another one is about to use. A replacement is an HMAC with a
    secret of the installation, so nobody else can take it. The ledger chooses between an id and its replacement.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._secret = b""

    def replacement(self, owner: str, wanted_id: str) -> str:
        """The id under which a record of `owner` is stored if another owner uses `wanted_id`: a UUIDv8.

        Raises:
            UnavailableError: Redis, which stores the secret, is not responding.
        """
        self._secret = self._secret or self._ledger.secret()
        return uuid_of_digest(hmac.digest(self._secret, f"{owner}\0{wanted_id}".encode(), "sha256"))
