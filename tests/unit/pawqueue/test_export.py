"""`pawqueue feedback export`, against the gateway in this process, and what training reads from the folder."""

import json
from pathlib import Path

import httpx
import pytest

from contract.job import new_job_id
from contract.ledger.reviews import KeptImage, ReviewLimits
from pawqueue import ClientError, Pawqueue
from pawqueue.bulk.export import folder_of
from tests.support.images import draw
from tests.training.synthetic import striped_jpeg, tiny_params
from tests.unit.pawqueue.conftest import Command
from tests.unit.pawqueue.service import Service
from training.data.sources import read_sources
from training.data.survey import survey

Capture = pytest.CaptureFixture[str]
LIMITS = ReviewLimits(3600, 10_000, 10**9)


def review(service: Service, url: str, data: bytes, label: str) -> str:
    """Send an image that is kept for review, and label it; returns the id of its job."""
    with Pawqueue(url) as client:
        job_id = client.predict(data).id
    (job,) = service.ledger.get([job_id])
    assert job
    ref = service.images.put(data)
    kept = KeptImage(job_id, "low_confidence", ref, len(data), "cat", 0.5, "pets", "1", 0)
    assert service.ledger.reviews.keep(kept, job.fence, LIMITS)
    relabel(service, job_id, label)
    return job_id


def relabel(service: Service, job_id: str, label: str) -> None:
    service.ledger.reviews.claim("r", "", 1000, job_id)
    service.ledger.reviews.label(job_id, "r", label)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_reviewed_images_are_written_as_they_were_sent(
    service: Service, url: str, tmp_path: Path, pawqueue: Command, capsys: Capture
) -> None:
    png, jpeg = draw(), draw(form="JPEG")
    first, second = review(service, url, png, "cat"), review(service, url, jpeg, "dog")
    folder = tmp_path / "reviewed"
    assert pawqueue("feedback", "export", folder) == 0
    assert capsys.readouterr().out == f"2 reviewed images are in {folder}: 2 new, 0 moved, 0 deleted.\n"
    expected = {f"cat/{first}.png": png, f"dog/{second}.jpg": jpeg}
    assert files(folder) == expected
    assert pawqueue("feedback", "export", folder, "--json") == 0
    counts = json.loads(capsys.readouterr().out)
    assert counts == {"written": 0, "present": 2, "moved": 0, "removed": 0, "failed": 0, "problems": []}
    assert files(folder) == expected


def test_an_interrupted_export_resumes(service: Service, url: str, tmp_path: Path, pawqueue: Command) -> None:
    job_ids = [review(service, url, draw(), "cat") for _ in range(3)]
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / f"{job_ids[0]}.png").write_bytes(draw())
    (tmp_path / f".{job_ids[1]}.png.part").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    assert pawqueue("feedback", "export", tmp_path) == 0
    assert files(tmp_path) == {f"cat/{job_id}.png": draw() for job_id in job_ids} | {"notes.txt": b"mine"}


def test_an_image_moves_to_the_folder_of_its_new_label(
    service: Service, url: str, tmp_path: Path, pawqueue: Command
) -> None:
    job_id = review(service, url, draw(), "cat")
    pawqueue("feedback", "export", tmp_path)
    relabel(service, job_id, "dog")
    assert pawqueue("feedback", "export", tmp_path) == 0
    assert files(tmp_path) == {f"dog/{job_id}.png": draw()}


def test_an_image_whose_label_was_taken_back_is_deleted(
    service: Service, url: str, tmp_path: Path, pawqueue: Command, capsys: Capture
) -> None:
    right, taken_back = review(service, url, draw(), "cat"), review(service, url, draw(), "cat")
    pawqueue("feedback", "export", tmp_path)
    capsys.readouterr()
    service.ledger.reviews.claim("r", "", 1000, taken_back)
    other = tmp_path / "cat" / "mine.png"
    other.write_bytes(b"mine")
    assert pawqueue("feedback", "export", tmp_path) == 0
    assert capsys.readouterr().out == f"1 reviewed images are in {tmp_path}: 0 new, 0 moved, 1 deleted.\n"
    assert files(tmp_path) == {f"cat/{right}.png": draw(), "cat/mine.png": b"mine"}


def test_a_different_file_is_not_overwritten(
    service: Service, url: str, tmp_path: Path, pawqueue: Command, capsys: Capture
) -> None:
    job_id = review(service, url, draw(), "cat")
    (tmp_path / "dog").mkdir()
    other = tmp_path / "dog" / f"{job_id}.png"
    other.write_bytes(b"another image")
    assert pawqueue("feedback", "export", tmp_path) == 1
    assert "another image has this name" in capsys.readouterr().err
    assert files(tmp_path) == {f"dog/{job_id}.png": b"another image"}


def test_an_image_that_is_gone_is_reported(
    service: Service, url: str, tmp_path: Path, pawqueue: Command, capsys: Capture
) -> None:
    whole, lost = review(service, url, draw(), "cat"), review(service, url, draw(), "cat")
    kept = service.ledger.reviews.get(lost)
    assert kept
    service.images.delete([kept.image])
    assert pawqueue("feedback", "export", tmp_path) == 1
    assert f"{lost}: the image has expired or was purged meanwhile." in capsys.readouterr().err
    assert list(files(tmp_path)) == [f"cat/{whole}.png"]


@pytest.mark.usefixtures("service")
def test_without_reviewed_images_nothing_is_written(
    url: str, tmp_path: Path, pawqueue: Command, capsys: Capture
) -> None:
    assert url
    assert pawqueue("feedback", "export", tmp_path / "new") == 0
    assert capsys.readouterr().out.startswith("Nobody has reviewed images yet.")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("cat", "cat"),
        ("Hündin, alt", "Hündin, alt"),
        ("a/b", "a%2Fb"),
        ("a%2Fb", "a%252Fb"),
        ("..", "%2E%2E"),
        (".git", "%2Egit"),
        ("etc.", "etc%2E"),
        ('a\\b:c*"\n', "a%5Cb%3Ac%2A%22%0A"),
        ("/", "%2F"),
    ],
)
def test_the_folder_of_a_label_is_inside_the_exported_one(label: str, name: str) -> None:
    assert folder_of(label) == name


def test_folders_of_long_labels_differ_and_can_be_made(tmp_path: Path) -> None:
    first, second = (folder_of("ü/" * 100 + end) for end in "ab")
    assert first != second
    for name in (first, second):
        (tmp_path / name).mkdir()


def test_training_never_tests_on_reviewed_images_that_it_trains_on(
    service: Service, url: str, tmp_path: Path, pawqueue: Command
) -> None:
    """The reviewed images are: new ones, a copy of an old one, and the same images again, with almost equal bytes."""
    old = tmp_path / "old"
    for index, label in enumerate(("cat", "dog")):
        (old / label).mkdir(parents=True)
        for seed in range(30):
            (old / label / f"{seed}.jpg").write_bytes(striped_jpeg(index, seed))
    reviewed = [striped_jpeg(0, seed) for seed in range(25, 45)]
    again = [data + b"\0" for data in reviewed]  # what follows the image is ignored
    for data in (*reviewed, *again):
        review(service, url, data, "cat")
    exported = tmp_path / "reviewed"
    assert pawqueue("feedback", "export", exported) == 0

    params = tiny_params().prepare
    images = survey(read_sources([old, exported], rename={}, max_unpacked_bytes=10**9), params)
    copies = [image for image in images if image.dropped.startswith("copy of")]
    assert len(copies) == 5
    splits: dict[str, set[str]] = {}
    for image in images:
        if not image.dropped:
            splits.setdefault(image.group, set()).add(image.split)
    assert all(len(found) == 1 for found in splits.values())
    assert len(splits) < len([image for image in images if not image.dropped])  # there are near-duplicates
    assert {"train", "test"} <= {split for found in splits.values() for split in found}
    hashes = {image.perceptual_hash: image.split for image in images if image.split == "train"}
    assert not [image.name for image in images if image.split == "test" and image.perceptual_hash in hashes]


def test_all_pages_of_reviewed_images_are_read() -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        after = int(request.url.params["after"])
        image = {"job_id": new_job_id(), "label": f"after {after}", "predicted": "cat", "file": "", "size_bytes": 1}
        following = {0: 7, 7: 9}.get(after)
        return httpx.Response(200, json={"images": [image] if after != 7 else [], "next": following})

    with Pawqueue("http://gateway", transport=httpx.MockTransport(respond)) as client:
        assert [image.label for image in client.reviewed()] == ["after 0", "after 9"]


def test_a_gateway_cannot_choose_the_names_of_files(tmp_path: Path) -> None:
    image = {"job_id": "../evil", "label": "cat", "predicted": "cat", "file": "", "size_bytes": 1}
    respond = httpx.MockTransport(lambda _: httpx.Response(200, json={"images": [image], "next": None}))
    with Pawqueue("http://gateway", transport=respond) as client, pytest.raises(ClientError):
        list(client.reviewed())
