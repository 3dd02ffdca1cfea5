"""CSV files that are safe to open in a spreadsheet, whatever the file names and labels in them are.

A spreadsheet evaluates a cell that starts like a formula, and it may split lines at another character than the comma:
in many countries Excel expects semicolons. Quotes do not prevent that, because they count only at the start of what the
spreadsheet considers a cell. So an apostrophe is inserted at every place in a text where a cell with a formula could
start, and removed again when the file is read. Standard library only: the client imports this module.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator

#: A number is written with six significant digits.
Cell = str | int | float | None

#: Where a spreadsheet may split a line: separators and line breaks, which include all control characters.
_SPLITS = r",;|\x00-\x1f\x7f\x85\u2028\u2029"
#: Ignored at the start of a cell: quotes, spaces and invisible characters.
_BLANKS = r"\"\x20\xa0\u1680\u2000-\u200b\u202f\u205f\u3000\ufeff"
#: The start of a formula. Spreadsheets convert the full-width and small forms of East Asian keyboards.
_SIGNS = r"=+\-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u2212"
_CELL_START = rf"(?:\A|(?<=[{_SPLITS}]))"
#: Before an apostrophe, too, so that reading can remove one from every place.
_UNSAFE = re.compile(rf"{_CELL_START}(?=[{_BLANKS}]*[{_SIGNS}]|')|\A(?=[\x00-\x1f\x7f])")
_GUARD = re.compile(rf"{_CELL_START}'")


def csv_line(cells: Iterable[Cell]) -> str:
    """One line, with a line feed at the end."""
    line = io.StringIO()
    # The csv module quotes a line end in a cell only if its own line terminator contains it; "\r\n" covers both.
    csv.writer(line, lineterminator="\r\n").writerow(map(_guarded, cells))
    return line.getvalue().removesuffix("\r\n") + "\n"


def read_csv(lines: Iterable[str]) -> Iterator[list[str]]:
    """The texts of the cells that `csv_line` wrote, line by line; `lines` is a file opened with `newline=""`."""
    for cells in csv.reader(lines):
        yield [_GUARD.sub("", cell) for cell in cells]


def read_records(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    """The lines after the header, each as a dictionary by column. Cells that are missing in a line are left out."""
    rows = read_csv(lines)
    columns = next(rows, [])
    for cells in rows:
        yield dict(zip(columns, cells, strict=False))


def _guarded(cell: Cell) -> str:
    if isinstance(cell, str):
        return _UNSAFE.sub("'", cell)
    return "" if cell is None else f"{cell:.6g}" if isinstance(cell, float) else str(cell)
