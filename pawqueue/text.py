"""Text that came from outside, made safe for where it goes."""

#: A spreadsheet takes a cell that begins so for a formula; the apostrophe is here so that adding one can be undone.
_RISKY = "=+-@'"


def valid_unicode(text: str) -> str:
    """Write the bytes of a file name that are no Unicode as a backslash and a number."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def cell(text: str) -> str:
    """Put an apostrophe before what a spreadsheet would run as a formula, and before a control character."""
    return f"'{text}" if text and (text[0] in _RISKY or ord(text[0]) < 32 or text[0] == "\x7f") else text


def from_cell(text: str) -> str:
    """Undo `cell`."""
    return text.removeprefix("'")


def shown(text: str) -> str:
    """One line for a terminal: what could move its cursor or change its colours is written as an escape."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
