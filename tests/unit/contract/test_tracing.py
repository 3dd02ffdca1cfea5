"""The `traceparent` of requests: which ones are valid, and what is kept of them."""

import pytest

from contract.tracing import exemplar_of, is_sampled, trace_id_of, valid_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        (f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01"),
        (f"00-{TRACE}-{SPAN}-00", f"00-{TRACE}-{SPAN}-00"),
        (f"00-{TRACE}-{SPAN}-03", f"00-{TRACE}-{SPAN}-01"),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", f"00-{TRACE}-{SPAN}-01"),
        (f"ff-{TRACE}-{SPAN}-01", ""),
        (f"00-{'0' * 32}-{SPAN}-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (f"00-{TRACE.upper()}-{SPAN}-01", ""),
        (f"00-{TRACE}-{SPAN}", ""),
        (f"00-{TRACE}-{SPAN}-01\n", ""),
        ("", ""),
    ],
)
def test_only_valid_headers_are_kept(header: str, kept: str) -> None:
    assert valid_traceparent(header) == kept


def test_only_sampled_traces_have_exemplars() -> None:
    sampled, other = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"
    assert (is_sampled(sampled), is_sampled(other), is_sampled("")) == (True, False, False)
    assert (exemplar_of(sampled), exemplar_of(other), exemplar_of("")) == ({"trace_id": TRACE}, None, None)
    assert (trace_id_of(sampled), trace_id_of("")) == (TRACE, "")
