"""Forms: each image is accepted or rejected individually, whatever the name and encoding of its part."""

import hashlib

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from werkzeug.test import TestResponse

from contract.errors import PawqueueError
from gateway.accept.forms import read_form
from tests.support.images import draw
from tests.unit.gateway.conftest import Gateway, assert_problem
from tests.unit.gateway.test_archives import MAX_BYTES, RED, reader, until_error
from tests.unit.gateway.test_submissions import counts, open_submission

BOUNDARY = "edge"


def form(*parts: bytes, end: bytes = b"--edge--\r\n") -> bytes:
    return b"".join(b"--edge\r\n" + part + b"\r\n" for part in parts) + end


def part(head: bytes, data: bytes = RED) -> bytes:
    return b"Content-Disposition: form-data; " + head + b"\r\n\r\n" + data


def test_parts_of_a_form_are_accepted_or_rejected_individually() -> None:
    body = form(
        part(b'name="file"; filename="red.png"'),
        part(b'name="other"; filename="other.png"'),
        part(b'name="file"; filename="large.png"', bytes(MAX_BYTES + 1)),
        part(b'name="file"; filename="../up.png"'),
    )
    received = [
        (image.custom_id, image.error.code if image.error else "")
        for image in read_form(reader(body), BOUNDARY, MAX_BYTES)
    ]
    assert received == [
        ("red.png", ""),
        ("large.png", "upload_too_large"),
        ("../up.png", ""),  # such names are rejected only in archives
    ]


def test_a_form_holds_at_most_100_images() -> None:
    parts = [part(b'name="file"; filename="%d.png"' % n, b"x") for n in range(101)]
    assert len(list(read_form(reader(form(*parts[:100])), BOUNDARY, MAX_BYTES))) == 100
    images, error = until_error(read_form(reader(form(*parts)), BOUNDARY, MAX_BYTES))
    assert (len(images), "100 images" in error) == (100, True)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nothing",
        form(),
        form(part(b'name="file"; filename="a.png"'), end=b""),
        form(part(b'name="file"; filename="a.png"'))[:-30],
        form(b"No-Disposition: x\r\n\r\nx"),
        form(b"X: " + b"a" * 500_000),
        form(*[part(b'name="x"', b"")] * 300),
        form(part(b'name="other"')),
        b"--edge\r\n" + b"\xff\xfe: \xff\r\n\r\n",
    ],
)
def test_a_malformed_form_is_rejected(body: bytes) -> None:
    with pytest.raises(PawqueueError):
        list(read_form(reader(body), BOUNDARY, MAX_BYTES))


@settings(max_examples=75, deadline=None)
@given(data=st.data())
def test_a_damaged_form_raises_only_expected_errors(data: st.DataObject) -> None:
    body = bytearray(form(part(b'name="file"; filename="a.png"'), part(b'name="file"; filename="b.png"')))
    for _ in range(data.draw(st.integers(1, 8))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    until_error(read_form(reader(bytes(body)), BOUNDARY, MAX_BYTES))


#: The head of a part, and the name that its image gets.
NAMES: dict[str, tuple[bytes, str]] = {
    "UTF-8": ('name=file; filename="Kätzchen.png"'.encode(), "Kätzchen.png"),
    "Latin-1": ('name=file; filename="Kätzchen.png"'.encode("latin-1"), "K\\xe4tzchen.png"),
    "Shift-JIS": ('name=file; filename="猫.png"'.encode("shift-jis"), "\\x94L.png"),
    "truncated UTF-8": (b'name=file; filename="K\xc3.png"', "K\\xc3.png"),
    "RFC 5987": (b"name=file; filename*=UTF-8''K%C3%A4tzchen.png", "Kätzchen.png"),
    "RFC 5987 in Latin-1": (b"name=file; filename*=ISO-8859-1''K%E4tzchen.png", "Kätzchen.png"),
    "RFC 5987 in Shift-JIS": (b"name=file; filename*=Shift_JIS''%94L.png", "%94L.png"),
    "both": (b"name=file; filename=\"K_tzchen.png\"; filename*=UTF-8''K%C3%A4tzchen.png", "Kätzchen.png"),
    "quotes": (b'name=file; filename="a \\"b\\".png"', 'a "b".png'),
    "quotes of browsers": (b'name=file; filename="a %22b%22.png"', 'a "b".png'),
    "path": (b'name=file; filename="../a/b.png"', "../a/b.png"),
}


def post_form(gateway: Gateway, url: str, body: bytes) -> TestResponse:
    return gateway.client.post(url, data=body, content_type=f"multipart/form-data; boundary={BOUNDARY}")


@pytest.mark.parametrize("kind", NAMES)
def test_a_name_in_any_encoding_is_kept(gateway: Gateway, kind: str) -> None:
    head, name = NAMES[kind]
    job = post_form(gateway, "/v1/jobs", form(part(head)))
    assert job.status_code == 202
    assert job.get_json()["file"] == name
    others = (part(b'name=file; filename="1.png"'), part(b'name=file; filename="2.png"'))
    url = open_submission(gateway)
    added = post_form(gateway, f"{url}/jobs", form(others[0], part(head), others[1]))
    assert [item["custom_id"] for item in added.get_json()["accepted"]] == ["1.png", name, "2.png"]
    assert counts(gateway, url) == {"total": 3, "queued": 3}


def test_control_characters_of_a_name_are_removed_for_a_job_and_escaped_in_a_submission(gateway: Gateway) -> None:
    body = form(part(b'name=file; filename="a\tb\x1b.png"'))
    assert post_form(gateway, "/v1/jobs", body).get_json()["file"] == "ab.png"
    added = post_form(gateway, f"{open_submission(gateway)}/jobs", body).get_json()
    assert added["accepted"][0]["custom_id"] == "a\\x09b\\x1b.png"


def test_names_that_differ_only_in_undecodable_bytes_stay_distinct(gateway: Gateway) -> None:
    body = form(*[part(b'name=file; filename="K%c.png"' % byte) for byte in (0xE4, 0xE5)])
    added = post_form(gateway, f"{open_submission(gateway)}/jobs", body).get_json()
    assert len({item["job_id"] for item in added["accepted"]}) == 2


@pytest.mark.parametrize("head", [b"name=file", b'name=file; filename=""'])
def test_an_image_without_a_file_name_is_named_by_its_content(gateway: Gateway, head: bytes) -> None:
    assert post_form(gateway, "/v1/jobs", form(part(head))).get_json()["file"] == ""
    assert post_form(gateway, "/v1/jobs?file=x.png", form(part(head))).get_json()["file"] == "x.png"
    url, blue = open_submission(gateway), draw(color=(0, 0, 200))
    for is_repeated in (False, True):
        added = post_form(gateway, f"{url}/jobs", form(part(head), part(head, blue))).get_json()
        expected = [f"unnamed-{hashlib.sha256(data).hexdigest()[:12]}" for data in (RED, blue)]
        assert [(item["custom_id"], item["repeated"]) for item in added["accepted"]] == [
            (name, is_repeated) for name in expected
        ]


#: A part that is not an image, its error code and the reason.
BAD_PARTS: dict[str, tuple[bytes, str, str]] = {
    "text": (part(b"name=file", b"cat.jpg"), "no_file", "is text, not a file"),
    "base64 text": (part(b"name=file", b"iVBORw0KGgoAAAANSUhEUg=="), "no_file", "is text, not a file"),
    "no file chosen": (part(b'name=file; filename=""', b""), "no_file", "No file was chosen"),
    "base64": (
        part(b'name=file; filename="a.png"\r\nContent-Transfer-Encoding: base64', b"iVBORw0KGgo="),
        "bad_request",
        "Content-Transfer-Encoding: base64",
    ),
    "too large": (part(b'name=file; filename="a.png"', bytes(MAX_BYTES + 1)), "upload_too_large", "100,000 bytes"),
    "empty": (part(b'name=file; filename="a.png"', b""), "empty_upload", "is empty"),
}


@pytest.mark.parametrize("kind", BAD_PARTS)
def test_a_bad_part_is_rejected_for_its_own_reason_and_the_others_are_accepted(gateway: Gateway, kind: str) -> None:
    bad, code, reason = BAD_PARTS[kind]
    body = form(part(b'name=file; filename="1.png"'), bad, part(b'name=file; filename="2.png"'))
    added = post_form(gateway, f"{open_submission(gateway)}/jobs", body).get_json()
    assert [item["custom_id"] for item in added["accepted"]] == ["1.png", "2.png"]
    (rejected,) = added["rejected"]
    assert rejected["code"] == code
    assert reason in rejected["detail"]
    problem = post_form(gateway, "/v1/jobs", form(bad))
    assert reason in assert_problem(problem, 413 if code == "upload_too_large" else 400, code)["detail"]


def test_a_form_without_any_file_is_rejected(gateway: Gateway) -> None:
    url = f"{open_submission(gateway)}/jobs"
    body = form(part(b"name=file", b"cat.jpg"), part(b"name=other; filename=a.png"))
    assert "is text, not a file" in assert_problem(post_form(gateway, url, body), 400, "no_file")["detail"]


def test_binary_transfer_encodings_are_accepted(gateway: Gateway) -> None:
    heads = [
        b"name=file; filename=%d.png\r\nContent-Transfer-Encoding: %b" % pair
        for pair in enumerate((b"binary", b"8BIT"))
    ]
    added = post_form(gateway, f"{open_submission(gateway)}/jobs", form(*map(part, heads)))
    assert len(added.get_json()["accepted"]) == 2


@pytest.mark.parametrize(
    ("body", "code", "reason"),
    [
        (form(part(b"name=image; filename=a.png"), part(b'name="K\xe4"', b"x")), "no_file", "it has `image`, `K\\xe4`"),
        (
            form(part(b"name=file; filename=a.png"), part(b"name=file; filename=b.png")),
            "bad_request",
            "takes one image",
        ),
        (RED, "bad_request", "no form with the boundary"),
        (form(part(b"name=file; filename=a.png"), end=b""), "bad_request", "truncated"),
    ],
)
def test_a_form_that_is_not_one_image_is_rejected_with_the_reason(
    shared_gateway: Gateway, body: bytes, code: str, reason: str
) -> None:
    assert reason in assert_problem(post_form(shared_gateway, "/v1/jobs", body), 400, code)["detail"]


def test_a_part_with_broken_headers_does_not_affect_the_others(gateway: Gateway) -> None:
    body = form(b"X-No-Disposition: x\r\n\r\nx", b"\xff\xfe: \xff\r\n\r\nx", part(b"name=file; filename=a.png"))
    assert post_form(gateway, "/v1/jobs", body).status_code == 202


def test_equal_names_in_a_form_are_a_conflict_unless_the_images_are_equal(gateway: Gateway) -> None:
    head = b"name=file; filename=a.png"
    body = form(part(head), part(head), part(head, draw(color=(0, 0, 200))))
    added = post_form(gateway, f"{open_submission(gateway)}/jobs", body).get_json()
    assert [item["repeated"] for item in added["accepted"]] == [False, True]
    assert [item["code"] for item in added["rejected"]] == ["conflict"]


def test_a_long_name_is_shortened_for_a_job_and_rejected_in_a_submission(gateway: Gateway) -> None:
    body = form(part(b"name=file; filename=" + b"n" * 10_000 + b".png"))
    assert post_form(gateway, "/v1/jobs", body).get_json()["file"] == "n" * 255
    added = post_form(gateway, f"{open_submission(gateway)}/jobs", body).get_json()
    (rejected,) = added["rejected"]
    assert "longer than 1024 characters" in rejected["detail"]
    assert len(rejected["custom_id"]) < 200


def test_long_names_of_rejected_parts_do_not_fill_the_response(gateway: Gateway) -> None:
    body = form(*(part(b"name=file; filename=%d" % n + b"n" * 100_000, b"text") for n in range(20)))
    response = post_form(gateway, f"{open_submission(gateway)}/jobs", body)
    assert len(response.get_json()["rejected"]) == 20
    assert len(response.data) < 20_000
    others = form(*(part(b"name=" + b"n" * 100_000, b"text") for _ in range(20)))
    assert len(post_form(gateway, "/v1/jobs", others).data) < 2_000


def test_predict_accepts_a_name_that_is_not_utf_8(gateway: Gateway) -> None:
    gateway.serve_model()
    gateway.finish_new_jobs()
    head = b'name=file; filename="K\xe4tzchen.png"\r\nContent-Type: image/png'
    assert post_form(gateway, "/predict", form(part(head))).status_code == 200
