"""Filters in a URL, jobs as CSV, and the formatting of numbers."""

import csv
import io
from dataclasses import replace

import pytest

from dashboard.data.jobs import Filters, format_query, parse_filters, parse_job_id
from dashboard.pages.predictions import label_mix, time_slices, to_csv
from dashboard.parts.gallery import details, tiles
from dashboard.parts.text import count, duration, milliseconds, number, percent
from tests.unit.dashboard.conftest import NOW, row


@pytest.mark.parametrize(
    "filters",
    [Filters(), Filters(label="cat & dog", least=10, most=90), Filters(status="failed", model="m 1", minutes=5)],
)
def test_filters_survive_a_round_trip_through_the_url(filters: Filters) -> None:
    assert parse_filters(format_query(filters)) == filters
    assert parse_filters(format_query(filters, "x")) == filters


@pytest.mark.parametrize(
    "search", ["?least=x&most=-3", "?minutes=1e9&least=²", "?label=", "", "?least=900&most=900&=&;"]
)
def test_invalid_filters_are_ignored(search: str) -> None:
    found = parse_filters(search)
    assert 0 <= found.least <= found.most <= 100
    assert found.label == ""


def test_the_bounds_of_a_range_may_be_swapped() -> None:
    assert parse_filters("?least=80&most=20") == Filters(least=20, most=80)


@pytest.mark.parametrize("text", ["'; FLUSHALL", "<script>", "", "../../etc/passwd", "0" * 36])
def test_an_invalid_job_id_in_the_url_is_ignored(text: str) -> None:
    assert parse_job_id(f"?job={text}") == ""
    assert parse_job_id("?job=01a210be-c37a-7fc6-8b2f-64ed4499f07e") == "01a210be-c37a-7fc6-8b2f-64ed4499f07e"


def test_filters_select_matching_jobs() -> None:
    cat, dog = row("cat", 0.6), row("dog", 0.9, NOW - 600)
    failed = replace(row(), label="", confidence=None, status="failed")
    kept = {
        "label=cat": [cat],
        "least=80": [dog],
        "least=0": [cat, dog, failed],
        "status=failed": [failed],
        "minutes=5": [cat, failed],
        "most=99": [cat, dog],
    }
    for search, expected in kept.items():
        assert [job for job in (cat, dog, failed) if parse_filters(search).match(job, NOW)] == expected, search


def test_a_file_name_that_looks_like_a_formula_stays_text_in_a_spreadsheet() -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv([row(file="=1+1"), row(file='a,"b"\n'), row(file="x;=1")]))))
    assert [line["file"] for line in lines] == ["'=1+1", 'a,"b"\n', "x;'=1"]
    assert lines[0]["latency_ms"] == "250"


def test_the_shares_of_labels_sum_to_100_per_cent() -> None:
    rows = [row("cat" if at % 4 else "dog", finished_s=NOW - at) for at in range(100)]
    mix = dict(label_mix(time_slices(rows)))
    assert mix.keys() == {"cat", "dog"}
    for (_, cats), (_, dogs) in zip(mix["cat"], mix["dog"], strict=True):
        assert (cats or 0) + (dogs or 0) == pytest.approx(100)
    assert time_slices([]) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "unknown"), (0, "0 ms"), (0.0123, "12 ms"), (3.42, "3.4 s"), (42, "42 s"), (59.97, "1 min"),
        (320, "5 min 20 s"), (3600, "1 h"), (90_000, "1 d 1 h"),
    ],
)  # fmt: skip
def test_durations_are_formatted_with_a_suitable_unit(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "unknown"), (0, "0"), (1234.5, "1,234"), (12.345, "12.3"), (0.00123, "0.00123"), (2, "2")],
)
def test_numbers_are_formatted_with_three_significant_digits(value: float | None, text: str) -> None:
    assert number(value) == text


def test_values_are_formatted_with_their_units() -> None:
    assert (milliseconds(3.42), milliseconds(250), milliseconds(1234), percent(0.935, 1)) == (
        "3.4 ms",
        "250 ms",
        "1.2 s",
        "93.5 %",
    )
    assert (count(1, "job"), count(1200, "job")) == ("1 job", "1,200 jobs")


def test_the_warnings_about_an_image_are_shown_with_its_prediction() -> None:
    doubted = row(warnings="sample_range_assumed added_later")
    assert "Warning: sample_range_assumed, added_later" in str(tiles([doubted], Filters(), {}, ""))
    shown = str(details(doubted, doubted.job_id, {}, ""))
    assert "The file does not state" in shown
    assert "added_later" in shown
    assert "Warning" not in str(tiles([row()], Filters(), {}, "")) + str(details(row(), "x", {}, ""))
    assert next(csv.DictReader(io.StringIO(to_csv([doubted]))))["warnings"] == doubted.warnings


def test_the_familiarity_of_a_prediction_is_shown() -> None:
    known, unknown = row(familiarity=0.125), row(familiarity=None)
    assert "Familiarity 12.5 %" in str(tiles([known], Filters(), {}, ""))
    assert "12.5 %" in str(details(known, known.job_id, {}, ""))
    assert next(csv.DictReader(io.StringIO(to_csv([known]))))["familiarity"] == "0.125"
    for shown in (tiles([unknown], Filters(), {}, ""), details(unknown, "x", {}, "")):
        assert "Familiarity" not in str(shown)
