"""The error that ends an import."""


class ImportFailedError(Exception):
    """The network cannot be imported as requested; the message is one sentence that says what to do."""
