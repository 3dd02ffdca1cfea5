"""Images kept for review: their limits, leases, labels and removal."""

from dataclasses import replace
from typing import Any

import pytest
import redis

from contract.images.store import ImageStore, open_image_store
from contract.job import Job, JobResult, ModelRef, Prediction
from contract.ledger import keys
from contract.ledger.feedback import Count, day_of
from contract.ledger.ledger import Ledger
from contract.ledger.reviews import SKIP_MS, KeptImage, ReviewCounts, Reviewed, ReviewLimits, ReviewReason
from tests.support.ledger import NOW, claimed, contents, make_job, read, store

LIMITS = ReviewLimits(ttl_s=100, max_images=10, max_bytes=1000)
LEASE_MS = 60_000


def kept(
    ledger: Ledger, owner: str = "", limits: ReviewLimits = LIMITS, size: int = 7, at_ms: int = NOW, **fields: Any
) -> KeptImage:
    """Finish a job with the prediction `cat`, and keep its image."""
    job = replace(make_job(), owner=owner)
    store(ledger, [job])
    claim = claimed(ledger, job)
    result = JobResult(prediction=Prediction("cat", 0.6, {"cat": 0.6, "dog": 0.4}), model=ModelRef("pets", "1"))
    assert ledger.commit([(claim, result)], 60, now_ms=NOW) == [True]
    values: dict[str, Any] = {
        "reason": ReviewReason.LOW_CONFIDENCE,
        "image": f"review/{job.id}",
        "size_bytes": size,
        "predicted": "cat",
        "confidence": 0.6,
        "model": "pets",
        "version": "1",
        "owner": owner,
        "file": "a.jpg",
    }
    image = KeptImage(job.id, **values | fields)
    assert ledger.reviews.keep(image, claim.fence, limits, at_ms)
    return replace(image, kept_ms=at_ms, day=day_of(NOW))


def claim(ledger: Ledger, reviewer: str, owner: str = "", job_id: str = "", now_ms: int = NOW) -> str:
    found = ledger.reviews.claim(reviewer, owner, LEASE_MS, job_id, now_ms)
    return found.job_id if found else ""


def counts(ledger: Ledger) -> dict[str, Count]:
    return {found.version: found.count for found in ledger.feedback.of_model("pets", 1, at_ms=NOW)}


def expire(client: "redis.Redis", image: KeptImage) -> None:
    """Let the record of the job expire."""
    client.delete(keys.job(image.job_id))


def test_a_kept_image_is_read_back_unchanged(ledger: Ledger) -> None:
    image = kept(ledger, owner="ada", preview="d2VicA==", submission="s")
    assert ledger.reviews.get(image.job_id) == image
    assert ledger.reviews.get("unknown") is None
    assert ledger.reviews.counts("") == ledger.reviews.counts("ada") == ReviewCounts(1, 0)
    assert ledger.reviews.counts("bob") == ReviewCounts(0, 0)


def test_an_image_is_kept_once_and_never_for_a_purged_or_newer_job(ledger: Ledger) -> None:
    image = kept(ledger)
    fence = read(ledger, Job(image.job_id, "interactive", NOW)).fence
    assert not ledger.reviews.keep(image, fence, LIMITS, NOW)
    assert not ledger.reviews.keep(image, fence + 1, LIMITS, NOW)
    ledger.purge([image.job_id], 60, NOW)
    assert not ledger.reviews.keep(image, fence, LIMITS, NOW)
    assert ledger.reviews.counts("") == ReviewCounts(0, 0)


def test_a_job_with_the_id_of_another_owners_kept_image_does_not_replace_it(
    ledger: Ledger, redis_client: "redis.Redis"
) -> None:
    image = kept(ledger, owner="ada")
    expire(redis_client, image)
    job = replace(make_job(), id=image.job_id, owner="bob")
    store(ledger, [job])
    again = claimed(ledger, job)
    assert ledger.commit([(again, JobResult(prediction=Prediction("cat", 0.6, {"cat": 1.0})))], 60, now_ms=NOW)
    assert not ledger.reviews.keep(replace(image, owner="bob", image="review/other"), again.fence, LIMITS, NOW)
    assert ledger.reviews.get(image.job_id) == image


def test_the_label_of_an_image_counts_on_the_day_on_which_its_job_finished(ledger: Ledger) -> None:
    image = kept(ledger, at_ms=NOW + 86_400_000)  # the copy was made after midnight
    assert image.day == day_of(NOW)
    claim(ledger, "r", now_ms=NOW + 86_400_000)
    ledger.reviews.label(image.job_id, "r", "dog", now_ms=NOW + 86_400_000)
    assert counts(ledger) == {"1": Count(0, 1)}


def test_the_oldest_images_without_a_label_make_room(ledger: Ledger) -> None:
    limits = replace(LIMITS, max_images=3)
    first, second, third = (kept(ledger, limits=limits, at_ms=NOW + at) for at in range(3))
    assert claim(ledger, "r", now_ms=NOW + 10) == first.job_id
    ledger.reviews.label(first.job_id, "r", "dog", now_ms=NOW + 10)
    fourth = kept(ledger, limits=limits, at_ms=NOW + 20)
    left = [image.job_id for _, image in ledger.reviews.after(0, "", 10)]
    assert left == [first.job_id, third.job_id, fourth.job_id]
    assert ledger.discarded(10) == [second.image]


def test_the_total_size_is_limited(ledger: Ledger) -> None:
    first, second = kept(ledger, size=400), kept(ledger, size=500, at_ms=NOW + 1)
    third = kept(ledger, size=101, at_ms=NOW + 2)
    assert [image.job_id for _, image in ledger.reviews.after(0, "", 10)] == [second.job_id, third.job_id]
    assert ledger.discarded(10) == [first.image]


def test_expired_images_are_removed_with_or_without_a_label(ledger: Ledger, redis_client: "redis.Redis") -> None:
    first, second, third = kept(ledger, owner="ada"), kept(ledger), kept(ledger, at_ms=NOW + 1)
    claim(ledger, "r", job_id=second.job_id)
    ledger.reviews.label(second.job_id, "r", "dog", now_ms=NOW)
    assert ledger.reviews.trim(LIMITS, NOW + 100_000) == 2
    assert [image.job_id for _, image in ledger.reviews.after(0, "", 10)] == [third.job_id]
    assert ledger.discarded(10) == [first.image, second.image]
    assert ledger.reviews.trim(LIMITS, NOW + 200_000) == 1
    assert not [line for line in contents(redis_client).splitlines() if line.startswith("pawqueue:review")]
    assert redis_client.hget(keys.COUNTERS, "review_bytes") == "0"


def test_two_reviewers_never_get_the_same_image_while_the_lease_lasts(ledger: Ledger) -> None:
    first, second = kept(ledger), kept(ledger, at_ms=NOW + 1)
    later = NOW + 2
    assert claim(ledger, "ada", now_ms=later) == first.job_id
    assert claim(ledger, "bob", now_ms=later) == second.job_id
    assert claim(ledger, "eve", now_ms=later) == ""
    assert claim(ledger, "bob", job_id=first.job_id, now_ms=later) == ""
    assert ledger.reviews.label(first.job_id, "bob", "dog", now_ms=later) is Reviewed.TAKEN
    # A renewed lease lasts longer; ada's has expired.
    assert claim(ledger, "bob", job_id=second.job_id, now_ms=later + 30_000) == second.job_id
    assert claim(ledger, "eve", now_ms=later + LEASE_MS) == first.job_id
    assert claim(ledger, "eve", now_ms=later + LEASE_MS) == ""


def test_reviewers_get_only_the_images_of_the_owner(ledger: Ledger) -> None:
    kept(ledger, owner="ada")
    own = kept(ledger, owner="bob", at_ms=NOW + 1)
    assert claim(ledger, "r", owner="bob", now_ms=NOW + 1) == own.job_id
    assert claim(ledger, "r", owner="bob", now_ms=NOW + 1) == ""
    assert [image.job_id for _, image in ledger.reviews.after(0, "bob", 10)] == [own.job_id]


@pytest.mark.parametrize("has_expired", [False, True])
def test_a_label_is_feedback_on_the_job_even_if_its_record_has_expired(
    ledger: Ledger, redis_client: "redis.Redis", *, has_expired: bool
) -> None:
    image = kept(ledger)
    if has_expired:
        expire(redis_client, image)
    claim(ledger, "r")
    for _ in range(2):  # repeated after a lost response
        assert ledger.reviews.label(image.job_id, "r", "dog", "ada", NOW + 5) is Reviewed.DONE
    assert counts(ledger) == {"1": Count(0, 1)}
    assert redis_client.hget(keys.job(image.job_id), "feedback") == (None if has_expired else "dog")
    found = ledger.reviews.get(image.job_id)
    assert found == replace(image, label="dog", labeled_by="ada", labeled_ms=NOW + 5)
    assert ledger.reviews.counts("") == ReviewCounts(1, 1)
    assert claim(ledger, "r", now_ms=NOW + 10**6) == ""


def test_a_reviewer_takes_back_only_their_own_label(ledger: Ledger, redis_client: "redis.Redis") -> None:
    image = kept(ledger)
    claim(ledger, "ada")
    ledger.reviews.label(image.job_id, "ada", "cat", now_ms=NOW)
    assert claim(ledger, "bob", job_id=image.job_id) == ""
    assert counts(ledger) == {"1": Count(1, 1)}
    assert claim(ledger, "ada", job_id=image.job_id) == image.job_id
    assert counts(ledger) == {}
    assert redis_client.hget(keys.job(image.job_id), "feedback") is None
    assert ledger.reviews.get(image.job_id) == image
    assert claim(ledger, "bob") == ""  # the lease of ada has begun again


def test_a_skipped_image_comes_again_later_and_can_be_taken_up_again(ledger: Ledger) -> None:
    image = kept(ledger)
    claim(ledger, "ada")
    assert ledger.reviews.label(image.job_id, "ada", "", now_ms=NOW) is Reviewed.DONE
    assert claim(ledger, "bob") == ""
    assert claim(ledger, "ada", job_id=image.job_id) == image.job_id
    ledger.reviews.label(image.job_id, "ada", "", now_ms=NOW)
    assert claim(ledger, "bob", now_ms=NOW + SKIP_MS) == image.job_id


def test_feedback_on_a_job_reviews_its_image(ledger: Ledger) -> None:
    image = kept(ledger)
    job = read(ledger, Job(image.job_id, "interactive", NOW))
    assert ledger.feedback.add(job, "dog", by="ada", now_ms=NOW + 1)
    found = ledger.reviews.get(image.job_id)
    assert found
    assert (found.label, found.labeled_by, found.labeled_ms) == ("dog", "ada", NOW + 1)
    assert claim(ledger, "r", now_ms=NOW + 1) == ""
    assert ledger.reviews.label(image.job_id, "r", "cat", now_ms=NOW) is Reviewed.TAKEN


def test_feedback_on_a_new_job_with_the_same_id_leaves_the_kept_image(
    ledger: Ledger, redis_client: "redis.Redis"
) -> None:
    image = kept(ledger)
    expire(redis_client, image)
    job = replace(make_job(), id=image.job_id)
    store(ledger, [job])
    result = JobResult(prediction=Prediction("cat", 0.9, {"cat": 0.9}), model=ModelRef("pets", "1"))
    ledger.commit([(claimed(ledger, job), result)], 60, now_ms=NOW)
    ledger.feedback.add(read(ledger, job), "dog")
    assert ledger.reviews.get(image.job_id) == image
    claim(ledger, "r")
    ledger.reviews.label(image.job_id, "r", "cat", now_ms=NOW)
    assert redis_client.hget(keys.job(job.id), "feedback") == "dog"


@pytest.mark.parametrize("is_labeled", [False, True])
@pytest.mark.parametrize("has_expired", [False, True])
def test_a_purge_removes_the_kept_image(
    ledger: Ledger, redis_client: "redis.Redis", *, has_expired: bool, is_labeled: bool
) -> None:
    image = kept(ledger, owner="ada")
    claim(ledger, "r")
    if is_labeled:
        ledger.reviews.label(image.job_id, "r", "dog", now_ms=NOW)
    if has_expired:
        expire(redis_client, image)
    purged = ledger.purge([image.job_id], 60, NOW)
    assert (purged.jobs, purged.images) == (1, [image.image])
    ledger.remove_discarded(purged.images)
    left = [line for line in contents(redis_client).splitlines() if not line.startswith(keys.EVENTS)]
    assert image.job_id not in "\n".join(left)
    assert ledger.reviews.label(image.job_id, "r", "cat", now_ms=NOW) is Reviewed.UNKNOWN
    assert claim(ledger, "r", job_id=image.job_id) == ""


def test_pages_of_kept_images_follow_each_other(ledger: Ledger) -> None:
    images = [kept(ledger) for _ in range(5)]
    number, found = 0, []
    while page := ledger.reviews.after(number, "", 2):
        number = page[-1][0]
        found += [image for _, image in page]
    assert found == images


def test_a_page_is_full_although_one_of_its_images_is_removed_while_it_is_read(
    ledger: Ledger, redis_client: "redis.Redis"
) -> None:
    images = [kept(ledger) for _ in range(4)]
    redis_client.delete(keys.REVIEW + images[1].job_id)
    assert [image for _, image in ledger.reviews.after(0, "", 2)] == [images[0], images[2]]


@pytest.fixture(params=["files", "redis", "fsspec"])
def url(request: Any, tmp_path: Any) -> str:
    urls = {"files": str(tmp_path / "images"), "fsspec": f"memory://{tmp_path.name}"}
    return str(urls.get(request.param) or request.getfixturevalue("clean_redis"))


def test_images_of_a_part_are_read_and_deleted_through_the_whole_store(url: str) -> None:
    whole: ImageStore = open_image_store(url, ttl_s=60)
    part = open_image_store(url, ttl_s=60, part="review/")
    (kept_ref, other), plain = part.put_many([b"kept", b"other"]), whole.put(b"plain")
    assert kept_ref.startswith("review/")
    assert whole.get([plain, kept_ref, other]) == [b"plain", b"kept", b"other"]
    whole.delete([kept_ref])
    assert part.get([kept_ref, other, plain]) == [None, b"other", b"plain"]
