"""Several models in one worker, over HTTP, with a real Redis, gateway, worker and Keras."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from bundle.locate import INCLUDED
from tests.support.bundles import add_version
from tests.support.images import draw
from tests.support.services import Stack, running_stack, wait_until

_VERSION = json.loads((INCLUDED / "manifest.json").read_text())["version"]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("models")
    add_version(folder / "state" / "models", "birds", "1", ["owl", "sparrow"])
    add_version(folder / "state" / "models", "birds", "2", ["OWL", "SPARROW"])
    with running_stack(folder, measure_s=0) as stack:
        yield stack


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=120) as client:
        yield client


def predict(http: httpx.Client, **query: str) -> Any:
    return http.post("/v1/jobs", content=draw(), params=query, headers={"Prefer": "wait=60"}).json()


def test_each_model_answers_its_own_jobs(http: httpx.Client) -> None:
    expected = {
        "": ("cats-dogs", _VERSION, {"cat", "dog"}),
        "cats-dogs": ("cats-dogs", _VERSION, {"cat", "dog"}),
        "birds": ("birds", "1", {"owl", "sparrow"}),
        "birds@2": ("birds", "2", {"OWL", "SPARROW"}),
    }
    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(lambda model: (model, predict(http, model=model)), [*expected] * 6))
    for model, job in jobs:
        name, version, labels = expected[model]
        assert job["status"] == "succeeded", job
        assert job["model"] == {"name": name, "version": version}
        assert set(job["prediction"]["probabilities"]) == labels
        assert job["requested_model"] == (model or None)


def test_predict_answers_with_the_named_model(http: httpx.Client) -> None:
    body = http.post("/predict?model=birds", files={"file": ("x.png", draw(), "image/png")}).json()
    assert body.keys() == {"class", "confidence", "owl_probability", "sparrow_probability"}


def test_top_k_bounds_what_is_answered(http: httpx.Client) -> None:
    job = predict(http, top_k="1")
    assert job["prediction"]["probabilities"] == {job["prediction"]["label"]: job["prediction"]["confidence"]}


def test_a_model_that_is_imported_while_the_service_runs_is_served(http: httpx.Client, stack: Stack) -> None:
    assert predict(http, model="cars")["code"] == "unknown_model"
    add_version(stack.folder / "state" / "models", "cars", "1", ["bus", "truck"])
    wait_until(lambda: http.get("/v1/models/cars").status_code == 200, "the model to be registered", 30)
    assert predict(http, model="cars")["model"] == {"name": "cars", "version": "1"}


def test_a_model_that_cannot_be_loaded_is_reported_and_its_jobs_wait(http: httpx.Client, stack: Stack) -> None:
    folder = add_version(stack.folder / "state" / "models", "planes", "1", ["jet", "glider"])
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["golden"]["outputs"] = [[0.5, 0.5] for _ in manifest["golden"]["outputs"]]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    wait_until(lambda: http.get("/v1/models/planes").status_code == 200, "the model to be registered", 30)
    pinned, waiting = predict(http, model="planes@1"), predict(http, model="planes", deadline_s="2")
    assert pinned["error"]["code"] == "unusable_model"
    assert "golden outputs" in pinned["error"]["detail"]
    assert waiting["status"] == "expired"
    problems = {problem["code"]: problem["detail"] for problem in http.get("/v1/status").json()["problems"]}
    assert "planes@1" in problems["model_not_loaded"]
    assert predict(http)["status"] == "succeeded"
    assert predict(http, model="birds")["status"] == "succeeded"
