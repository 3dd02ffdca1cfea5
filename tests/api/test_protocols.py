"""Triton's own client against the gateway, and the programs of docs/migrating.md."""

import ast
import base64
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.support.images import draw
from tests.support.services import ROOT, Gateway, Stack

pytestmark = pytest.mark.slow

_MODEL = "cats-dogs"
_LOCAL = "http://localhost:8000"
_TEXT = (ROOT / "docs" / "migrating.md").read_text()


@pytest.fixture
def client(stack: Stack) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(stack.url.removeprefix("http://"), network_timeout=90) as opened:
        yield opened


def images() -> list[bytes]:
    return [draw((60, 40), color, form) for color, form in [((200, 30, 30), "PNG"), ((30, 200, 30), "JPEG")]]


def tensor_of(files: list[bytes], shape: list[int], *, binary: bool) -> triton.InferInput:
    elements = files if binary else [base64.b64encode(file) for file in files]
    tensor = triton.InferInput("image", shape, "BYTES")
    tensor.set_data_from_numpy(np.array(elements, dtype=np.object_).reshape(shape), binary_data=binary)
    return tensor


def test_triton_reads_the_server_and_the_model(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(_MODEL)
    assert not client.is_model_ready("fish")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata(_MODEL)
    assert client.is_model_ready(_MODEL, metadata["versions"][0])
    assert metadata["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("shape", [[2], [2, 1]])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_triton_classifies_images(
    client: triton.InferenceServerClient, stack: Stack, shape: list[int], compression: str | None, *, binary: bool
) -> None:
    names = ["label", "probabilities", "labels"]
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in names]
    result = client.infer(
        _MODEL,
        [tensor_of(images(), shape, binary=binary)],
        outputs=outputs,
        request_id="7",
        request_compression_algorithm=compression,
    )
    response = result.get_response()
    assert (response["id"], response["model_name"]) == ("7", _MODEL)
    ids = response["parameters"]["job_ids"].split(",")
    jobs = [httpx.get(f"{stack.url}/v1/jobs/{job_id}").json() for job_id in ids]
    assert [job["size_bytes"] for job in jobs] == [len(image) for image in images()]
    probabilities, labels = result.as_numpy("probabilities"), result.as_numpy("labels")
    assert probabilities.dtype == np.float32
    for row, job in enumerate(jobs):
        expected = job["prediction"]["probabilities"]
        assert [text(label) for label in labels[row]] == list(expected)
        assert probabilities[row] == pytest.approx(list(expected.values()), abs=1e-6)
        assert text(result.as_numpy("label")[row]) == job["prediction"]["label"]


def text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def test_triton_gets_all_outputs_in_binary_if_it_names_none(client: triton.InferenceServerClient) -> None:
    result = client.infer(_MODEL, [tensor_of(images()[:1], [1], binary=True)])
    assert all("binary_data_size" in output["parameters"] for output in result.get_response()["outputs"])
    assert result.as_numpy("probabilities").sum() == pytest.approx(1, abs=1e-5)


def test_triton_sends_requests_at_the_same_time(stack: Stack) -> None:
    with triton.InferenceServerClient(stack.url.removeprefix("http://"), concurrency=8, network_timeout=90) as client:
        tensors = [tensor_of([draw((40, 30), (number * 20, 90, 90))], [1], binary=True) for number in range(12)]
        calls = [client.async_infer(_MODEL, [tensor]) for tensor in tensors]
        ids = {call.get_result().get_response()["parameters"]["job_id"] for call in calls}
    assert len(ids) == 12


def test_triton_shows_the_error(client: triton.InferenceServerClient) -> None:
    for files, message in [([b"text"], "This is plain text"), ([draw(), draw((500, 500))[:200]], "Image 2 of 2: ")]:
        with pytest.raises(InferenceServerException, match=message):
            client.infer(_MODEL, [tensor_of(files, [len(files)], binary=True)])
    with pytest.raises(InferenceServerException, match="no model fish"):
        client.infer("fish", [tensor_of(images()[:1], [1], binary=True)])
    pixels = triton.InferInput("image", [1, 8, 8, 3], "FP32")
    pixels.set_data_from_numpy(np.zeros((1, 8, 8, 3), np.float32))
    with pytest.raises(InferenceServerException, match=r"takes no pixels\. Send the image file"):
        client.infer(_MODEL, [pixels])


def test_triton_sends_an_api_key(keyed: Gateway) -> None:
    key = keyed.make_key("--scope", "submit")
    with triton.InferenceServerClient(keyed.url.removeprefix("http://"), network_timeout=90) as client:
        tensor = tensor_of(images()[:1], [1], binary=True)
        assert client.infer(_MODEL, [tensor], headers={"X-API-Key": key}).as_numpy("label").shape == (1,)
        with pytest.raises(InferenceServerException, match="API key"):
            client.infer(_MODEL, [tensor])


def test_an_image_in_a_chunked_json_body_is_classified(stack: Stack) -> None:
    body = b'{"instances": [{"b64": "%b"}]}' % base64.b64encode(draw((900, 700), form="BMP"))
    pieces = (body[at : at + 50_000] for at in range(0, len(body), 50_000))
    response = httpx.post(f"{stack.url}/v1/models/{_MODEL}:predict", content=pieces, timeout=90)
    assert response.status_code == 200, response.text
    assert sum(response.json()["predictions"][0]) == pytest.approx(1, abs=1e-5)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", _TEXT, re.MULTILINE | re.DOTALL)


BEFORE, PYTHON, SHELL = (blocks(language) for language in ("py", "python", "sh"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A copy of the example images."""
    return Path(shutil.copytree(ROOT / "examples" / "photos", tmp_path / "photos"))


def run(command: list[str], folder: Path) -> str:
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environ = {**os.environ, "PATH": paths, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("program", PYTHON, ids=range(len(PYTHON)))
def test_programs_of_the_page_on_migrating_run(program: str, photos: Path, stack: Stack) -> None:
    text = program.replace(_LOCAL, stack.url).replace("localhost:8000", stack.url.removeprefix("http://"))
    assert run([sys.executable, "-c", text], photos).strip()


@pytest.mark.parametrize("commands", SHELL, ids=range(len(SHELL)))
def test_commands_of_the_page_on_migrating_run(commands: str, photos: Path, stack: Stack) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    assert run(["sh", "-euc", commands.replace(_LOCAL, stack.url)], photos).strip()


def test_the_page_on_migrating_shows_valid_programs_for_each_origin() -> None:
    assert len(BEFORE) >= 4
    for program in BEFORE:
        ast.parse(program)
    assert len(PYTHON) >= 5
    assert len(SHELL) >= 2
