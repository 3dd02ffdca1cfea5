"""CSV files: no spreadsheet finds a formula in them, however it splits lines, and reading restores every text."""

import csv
import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.csv_text import csv_line, read_csv, read_records

NAMES = [
    "plain.jpg", "cats, dogs; and 'more' - 1+1=2 @home.jpg", 'a "quoted" name.jpg', " space .jpg", "",
    "=1+1", "+a", "-a.jpg", "@a", "\t=1", "\r=1", "\n=1", " =1", '"=1', "'=1", "''=1", "'quoted", "\ufeff=1",
    "x;=1+1;.jpg", "x,=1+1", "x\t=1+1", "x|=1+1", "x\n=1+1", "x\r\n=1+1", "x\x0b=1", "x\x85=1", "x\u2028=1",
    'x;"=1+1"', 'x; "-1', "x;'=1", "x;;=1", "x;\t=1", "x;\xa0\u200b=1", 'x\n"=cmd|\' /C calc\'!A0"',
    "\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20a", "\ufe661", "\u22121", "x;\uff1d1+1",
]  # fmt: skip
#: What a spreadsheet may take for a formula, after quotes and blanks.
_FORMULA = re.compile(r"[\s\"\u200b\ufeff]*[=+@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u2212-]")
_TEXTS = (
    st.text(st.sampled_from(list("a1=+-@\uff1d'\",;|\t\n\r \xa0\u200b\x0b\x85\u2028\x00")), max_size=12) | st.text()
)


def cells_as_split(text: str, separator: str, *, quoting: bool) -> list[str]:
    """All cells of a file, for a program that separates them in this way."""
    # Some programs count further characters as line ends.
    lines = text.splitlines() if not quoting else io.StringIO(text, newline="")
    kind = csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE
    return [cell for row in csv.reader(lines, delimiter=separator, quoting=kind) for cell in row]


def assert_safe(*texts: str) -> None:
    line = csv_line(["a.jpg", *texts, -0.5, None, "b"])
    assert line.endswith(",-0.5,,b\n")
    for separator in ",;\t|":
        for quoting in (True, False):
            for cell in cells_as_split(line, separator, quoting=quoting):
                assert cell == "-0.5" or not _FORMULA.match(cell), (line, separator, cell)
    (found,) = read_csv(io.StringIO(line, newline=""))
    assert found == ["a.jpg", *texts, "-0.5", "", "b"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_never_a_formula_and_is_read_back_unchanged(name: str) -> None:
    assert_safe(name)
    assert_safe("x", name, name)


@settings(deadline=None, max_examples=60)
@given(st.lists(_TEXTS, max_size=3))
def test_any_texts_are_never_formulas_and_are_read_back_unchanged(texts: list[str]) -> None:
    assert_safe(*texts)


def test_numbers_stay_numbers_and_ordinary_names_are_not_changed() -> None:
    assert csv_line([-0.5, 0.123456789, -3, None, "a-b=c.jpg", "x; y, z.jpg", "cats@1.0"]) == (
        '-0.5,0.123457,-3,,a-b=c.jpg,"x; y, z.jpg",cats@1.0\n'
    )


def test_records_have_the_columns_of_the_header() -> None:
    text = csv_line(["-a", "b"]) + csv_line(["=1", "2"]) + csv_line(["x"])
    assert list(read_records(io.StringIO(text, newline=""))) == [{"-a": "=1", "b": "2"}, {"-a": "x"}]
    assert list(read_records([])) == []


def test_a_long_name_takes_no_more_than_linear_time() -> None:
    for part in ("\t", " ", '"', "; "):  # in quadratic time, each would take longer than the timeout of the tests
        assert len(csv_line([part * 200_000])) > 200_000
