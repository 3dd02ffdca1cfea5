"""What archives may cost: limits on members and on bytes that come out of few."""

from contract.errors import UploadTooLargeError

#: Images are packed already: more than this many bytes out of one is no archive of images.
_RATIO_MAX = 100
#: So many bytes may come out whatever went in: a few flat images pack very well.
_FREE_BYTES = 100_000_000


class UnpackBudget:
    """Counts what goes in and comes out of an archive.

    Args:
        max_bytes: Most bytes that may come out in all.
        max_members: Most members.
    """

    def __init__(self, max_bytes: int, max_members: int) -> None:
        self._max_bytes = max_bytes
        self._max_members = max_members
        self._members = 0
        self._packed = 0
        self._unpacked = 0

    def take_in(self, size: int) -> None:
        """So many bytes of the archive were read."""
        self._packed += size

    def put_out(self, size: int) -> None:
        """So many bytes came out.

        Raises:
            UploadTooLargeError: more than the limits.
        """
        self._unpacked += size
        if self._unpacked > self._max_bytes:
            raise UploadTooLargeError(
                f"The archive unpacks to more than {self._max_bytes:,} bytes. Send the rest in another one."
            )
        if self._unpacked > _FREE_BYTES + _RATIO_MAX * self._packed:
            raise UploadTooLargeError("The archive unpacks to far more than images do. Send them uncompressed.")

    def count_member(self) -> None:
        """One more member was found.

        Raises:
            UploadTooLargeError: there are too many.
        """
        self._members += 1
        if self._members > self._max_members:
            raise UploadTooLargeError(
                f"The archive has more than {self._max_members:,} members. Send the rest in another one."
            )
