"""`pawqueue submit` with addresses: the client sends them, and the service fetches the images."""

import json
from pathlib import Path

import pytest

from pawqueue.bulk.results import read_rows
from pawqueue.bulk.state import custom_id_of
from tests.support.bucket import bucket_with
from tests.unit.pawqueue.conftest import Command
from tests.unit.pawqueue.service import Service, write_images

Capture = pytest.CaptureFixture[str]

pytestmark = pytest.mark.usefixtures("url")
SITE = "https://images.example.com"


def addresses(service: Service) -> list[str]:
    """The addresses that were sent, including resent ones."""
    bodies = [request.body for request in service.requests if request.path.endswith("/jobs")]
    return [image["url"] for body in bodies if body.startswith(b"{") for image in json.loads(body)["images"]]


def test_the_addresses_of_a_list_are_sent_without_their_images(
    service: Service, tmp_path: Path, pawqueue: Command
) -> None:
    write_images(tmp_path, "mine.jpg")
    wanted = [f"{SITE}/{number}.jpg?signature=secret" for number in range(150)]
    names = tmp_path / "urls.txt"
    names.write_text("\n".join([*wanted[:100], str(tmp_path / "mine.jpg"), *wanted[100:]]) + "\n")
    out = tmp_path / "r.csv"
    assert pawqueue("submit", "--from-list", names, "--out", out) == 0
    assert sorted(addresses(service)) == sorted(wanted)
    rows = [row.file for row in read_rows(out)]
    assert rows == [
        *(f"{SITE}/{n}.jpg" for n in range(100)),
        str(tmp_path / "mine.jpg"),
        *(f"{SITE}/{n}.jpg" for n in range(100, 150)),
    ]
    assert "secret" not in out.read_text()


def test_an_interrupted_run_over_addresses_resumes(service: Service, tmp_path: Path, pawqueue: Command) -> None:
    names, out = tmp_path / "urls.txt", tmp_path / "r.csv"
    names.write_text("".join(f"{SITE}/{number}.jpg\n" for number in range(3)))
    service.held = {custom_id_of(f"{SITE}/1.jpg")}
    service.stop_worker()
    assert pawqueue("submit", "--from-list", names, "--out", out, "--give-up-after", "0.5") == 2
    service.reset()
    assert pawqueue("submit", "--from-list", names, "--out", out, "--resume") == 0
    assert [row.file for row in read_rows(out)] == [f"{SITE}/{number}.jpg" for number in range(3)]
    assert not addresses(service)


def test_an_address_that_is_not_allowed_is_in_the_results(
    service: Service, tmp_path: Path, pawqueue: Command, capsys: Capture
) -> None:
    out = tmp_path / "r.csv"
    assert pawqueue("submit", f"{SITE}/a.jpg", "https://other.example.com/b.jpg", "--out", out) == 1
    assert [(row.status, row.error_code) for row in read_rows(out)] == [
        ("succeeded", ""),
        ("refused", "fetch_not_allowed"),
    ]
    assert "PAWQUEUE_FETCH_ALLOW" in capsys.readouterr().out


def test_all_images_of_a_bucket_are_sent(service: Service, tmp_path: Path, pawqueue: Command) -> None:
    names = ("2026/cat/1.jpg", "2026/cat/2.JPG", "2026/dog/3.png", "2026/notes.txt", "2025/old.jpg")
    bucket_with({f"photos/{name}": b"x" for name in names})
    out = tmp_path / "r.csv"
    assert pawqueue("submit", "gs://photos/2026", "--out", out, "--label-from-folder") == 0
    assert addresses(service) == [f"gs://photos/2026/{name}" for name in ("cat/1.jpg", "cat/2.JPG", "dog/3.png")]
    assert pawqueue("submit", "gs://photos/2027", "--out", out) == 2


def test_a_command_without_images_is_refused(tmp_path: Path, pawqueue: Command, capsys: Capture) -> None:
    assert pawqueue("submit", "--out", tmp_path / "r.csv") == 2
    assert "--from-list" in capsys.readouterr().err
