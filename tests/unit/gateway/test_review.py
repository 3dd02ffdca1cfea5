"""`/v1/review`: who sees which images, leases, labels, and the list of labeled images."""

from typing import Any

import pytest

from contract.access import Scope
from contract.job import ModelRef, new_job_id
from contract.ledger.feedback import Count
from contract.ledger.models import VersionInfo
from contract.ledger.reviews import KeptImage, ReviewLimits
from tests.support.images import draw
from tests.unit.gateway.conftest import Gateway, MakeGateway, assert_problem, upload
from tests.unit.gateway.test_auth import key

LIMITS = ReviewLimits(3600, 100, 10**9)


def prepared(gateway: Gateway) -> Gateway:
    gateway.ledger.models.register("cats-dogs", "1", VersionInfo(["cat", "dog"], 8, 8), "w", default=True)
    gateway.finish_new_jobs()
    return gateway


@pytest.fixture
def gateway(gateway: Gateway) -> Gateway:
    return prepared(gateway)


@pytest.fixture
def guarded(make_gateway: MakeGateway) -> Gateway:
    return prepared(make_gateway(access="required"))


def keep(gateway: Gateway, data: bytes = b"", **headers: str) -> str:
    """Upload an image whose result is doubtful, as a worker keeps it; returns the id of its job."""
    data = data or draw()
    job_id = str(upload(gateway, data, "pet.png", **headers).json["id"])
    job, ref = gateway.job(job_id), gateway.images.put(data)
    kept = KeptImage(
        job_id, "low_confidence", ref, len(data), "cat", 0.56, "cats-dogs", "1", 0, job.owner, "", job.file
    )
    assert gateway.ledger.reviews.keep(kept, job.fence, LIMITS)
    return job_id


def claim(gateway: Gateway, reviewer: str = "r", headers: dict[str, str] | None = None, **members: Any) -> Any:
    body = {"reviewer": reviewer} | members
    return gateway.client.post("/v1/review/claims", json=body, headers=headers)


def label(
    gateway: Gateway, job_id: str, value: str | None, reviewer: str = "r", headers: dict[str, str] | None = None
) -> Any:
    body = {"reviewer": reviewer, "label": value}
    return gateway.client.post(f"/v1/review/{job_id}/label", json=body, headers=headers)


def image(gateway: Gateway, job_id: str, headers: dict[str, str] | None = None) -> Any:
    return gateway.client.get(f"/v1/review/{job_id}/image", headers=headers)


def test_an_image_is_claimed_shown_and_labeled(gateway: Gateway) -> None:
    data = draw((8, 8), form="JPEG")
    job_id = keep(gateway, data)
    found = claim(gateway).json
    assert (found["kept"], found["reviewed"], found["lease_s"]) == (1, 0, 60)
    task = found["image"]
    assert (task["job_id"], task["file"], task["labels"]) == (job_id, "pet.png", ["cat", "dog"])
    assert (task["predicted"], task["confidence"], task["label"], task["reason"]) == (
        "cat",
        0.56,
        None,
        "low_confidence",
    )
    shown = image(gateway, job_id)
    assert (shown.data, shown.mimetype, shown.headers["X-Content-Type-Options"]) == (data, "image/jpeg", "nosniff")
    done = label(gateway, job_id, "dog").json
    assert done["label"] == "dog"
    assert done["labeled_at"]
    assert claim(gateway).json == {"kept": 1, "reviewed": 1, "image": None, "lease_s": 60}
    (version,) = gateway.ledger.feedback.of_model("cats-dogs", 2)
    assert version.count == Count(0, 1)


def test_another_reviewer_gets_another_image(gateway: Gateway) -> None:
    first, second = keep(gateway), keep(gateway)
    assert claim(gateway, "ada").json["image"]["job_id"] == first
    assert claim(gateway, "bob").json["image"]["job_id"] == second
    assert claim(gateway, "eve").json["image"] is None
    assert_problem(claim(gateway, "bob", job_id=first), 409, "conflict")
    assert_problem(label(gateway, first, "cat", "bob"), 409, "conflict")
    assert claim(gateway, "ada", job_id=first).status_code == 200


def test_a_label_can_be_taken_back_and_an_image_skipped(gateway: Gateway) -> None:
    job_id = keep(gateway)
    claim(gateway)
    label(gateway, job_id, "cat")
    assert claim(gateway, job_id=job_id).json["image"]["label"] is None
    assert gateway.ledger.feedback.of_model("cats-dogs", 400, at_ms=1) == []
    assert label(gateway, job_id, None).json["label"] is None
    assert claim(gateway).json["image"] is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"reviewer": "r", "label": "rabbit"}, "not a label of cats-dogs@1"),
        ({"reviewer": "", "label": "cat"}, "reviewer"),
        ({"reviewer": "r"}, "label"),
        ({"reviewer": "r", "label": ""}, "label"),
    ],
)
def test_an_invalid_label_is_rejected(gateway: Gateway, body: dict[str, str], words: str) -> None:
    job_id = keep(gateway)
    response = gateway.client.post(f"/v1/review/{job_id}/label", json=body)
    assert words in assert_problem(response, 400, "bad_request")["detail"]
    assert gateway.ledger.reviews.counts("").reviewed == 0


def test_an_image_that_is_not_kept_is_not_found(gateway: Gateway) -> None:
    job_id = new_job_id()
    for response in (image(gateway, job_id), label(gateway, job_id, "cat"), claim(gateway, job_id=job_id)):
        assert_problem(response, 404, "not_found")


def test_an_image_without_data_leaves_the_review(gateway: Gateway) -> None:
    lost, whole = keep(gateway), keep(gateway)
    kept = gateway.ledger.reviews.get(lost)
    assert kept
    gateway.images.delete([kept.image])
    assert_problem(image(gateway, lost), 404, "not_found")
    assert claim(gateway).json["image"]["job_id"] == whole
    assert gateway.ledger.reviews.get(lost) is None


def test_labeled_images_are_listed_in_pages(gateway: Gateway) -> None:
    job_ids = [keep(gateway) for _ in range(5)]
    for job_id in job_ids[1:4]:
        claim(gateway, job_id=job_id)
        label(gateway, job_id, "dog")
    found, query = [], ""
    while True:
        page = gateway.client.get(f"/v1/review?labeled=true&limit=2{query}").json
        found += [row["job_id"] for row in page["images"]]
        if page["next"] is None:
            break
        query = f"&after={page['next']}"
    assert found == job_ids[1:4]
    assert (page["kept"], page["reviewed"]) == (5, 3)
    assert len(gateway.client.get("/v1/review").json["images"]) == 5


def test_a_key_reviews_its_own_images_and_an_admin_all(guarded: Gateway) -> None:
    ada, bob = key(guarded), key(guarded)
    boss = key(guarded, *Scope)
    job_id = keep(guarded, **ada)
    assert claim(guarded, headers=bob).json == {"kept": 0, "reviewed": 0, "image": None, "lease_s": 60}
    assert guarded.client.get("/v1/review", headers=bob).json["images"] == []
    for response in (
        image(guarded, job_id, bob),
        label(guarded, job_id, "cat", headers=bob),
        claim(guarded, headers=bob, job_id=job_id),
    ):
        assert_problem(response, 404, "not_found")
    assert claim(guarded, headers=ada).json["image"]["job_id"] == job_id
    assert claim(guarded, headers=boss, reviewer="boss").json["kept"] == 1
    assert image(guarded, job_id, boss).status_code == 200
    assert label(guarded, job_id, "dog", headers=boss).json["labeled_by"] == boss["X-API-Key"].split("_")[1]


def test_reading_and_labeling_need_their_scopes(guarded: Gateway) -> None:
    reader, sender = key(guarded, Scope.READ), key(guarded, Scope.SUBMIT)
    job_id = keep(guarded, **sender)
    for response in (claim(guarded, headers=reader), label(guarded, job_id, "cat", headers=reader)):
        assert_problem(response, 403, "forbidden")
    for response in (
        image(guarded, job_id, sender),
        guarded.client.get("/v1/review", headers=sender),
        claim(guarded, headers=sender),
    ):
        assert_problem(response, 403, "forbidden")
    assert_problem(claim(guarded), 401, "unauthorized")


def test_an_admin_reports_labels_for_the_jobs_of_others(guarded: Gateway) -> None:
    ada, reader, boss = key(guarded), key(guarded, Scope.READ, Scope.ADMIN), key(guarded, *Scope)
    job_id = keep(guarded, **ada)
    url = f"/v1/jobs/{job_id}/feedback"
    assert_problem(guarded.client.post(url, json={"label": "dog"}, headers=reader), 403, "forbidden")
    assert guarded.client.post(url, json={"label": "dog"}, headers=boss).status_code == 200
    found = guarded.ledger.reviews.get(job_id)
    assert found
    assert (found.label, found.labeled_by) == ("dog", boss["X-API-Key"].split("_")[1])
    assert guarded.job(job_id).result
    assert guarded.job(job_id).result.model == ModelRef("cats-dogs", "1")  # type: ignore[union-attr]
