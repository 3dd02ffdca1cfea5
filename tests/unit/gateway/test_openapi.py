"""The OpenAPI document, and the pages that render it."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from contract.errors import JobFailedError, error_classes
from contract.settings import SettingsError, load_settings
from gateway.http.job_schemas import CANCELED_JOB, FAILED_JOB, QUEUED_JOB, SUCCEEDED_JOB, WAITING_JOB, JobObject
from tests.support.images import draw
from tests.unit.gateway.conftest import Gateway

#: The routes that serve the document are not part of it.
_UNDOCUMENTED = {"/openapi.json", "/docs", "/docs/<name>", "/redoc"}


@pytest.fixture(scope="module")
def document(session_gateway: Gateway) -> dict[str, Any]:
    content: dict[str, Any] = session_gateway.client.get("/openapi.json").get_json()
    return content


@pytest.fixture(scope="module")
def guarded(guarded_gateway: Gateway) -> dict[str, Any]:
    """The OpenAPI document of a gateway that requires API keys."""
    content: dict[str, Any] = guarded_gateway.client.get("/openapi.json").get_json()
    return content


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_the_document_is_openapi_3_1_and_lists_every_route(gateway: Gateway, document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    rules = [rule for rule in gateway.client.application.url_map.iter_rules() if rule.rule not in _UNDOCUMENTED]
    served = {
        f"{method} {rule.rule.replace('<', '{').replace('>', '}')}"
        for rule in rules
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {name for name, _ in operations(document)} == served


def test_a_prefix_never_hides_a_path_of_the_gateway(gateway: Gateway) -> None:
    for name in {rule.rule.split("/")[1] for rule in gateway.client.application.url_map.iter_rules()} - {""}:
        with pytest.raises(SettingsError, match=f"must not start with /{name}"):
            load_settings({"PAWQUEUE_GATEWAY_PREFIX": f"/{name}"})


def test_every_operation_has_a_summary_and_an_example_for_every_response(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert operation["summary"], name
        assert re.fullmatch(r"[a-z]+_[a-z_]+", operation["operationId"]), name
        for status, response in operation["responses"].items():
            for media in response["content"].values() if status != "204" else ():
                assert "schema" in media, (name, status)
                assert media.get("examples") or media.get("example"), (name, status)


def test_every_parameter_is_described_with_an_example_or_its_values(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        for parameter in operation.get("parameters", ()):
            assert parameter["description"], name
            assert "example" in parameter or "enum" in parameter["schema"], (name, parameter["name"])


def test_every_error_has_an_example(document: dict[str, Any], guarded: dict[str, Any]) -> None:
    shown = set(re.findall(r"urn:pawqueue:error:([a-z_]+)", f"{document} {guarded}"))
    of_requests = {code for code, kind in error_classes().items() if not issubclass(kind, JobFailedError)}
    assert of_requests - {"no_model"} <= shown  # only /predict returns it, in the old format


def test_operations_list_their_required_scope(guarded: dict[str, Any]) -> None:
    submit = guarded["paths"]["/v1/jobs"]["post"]
    assert submit["security"] == [{"bearer": ["submit"]}, {"api_key": ["submit"]}]
    assert {"401", "403", "429"} <= submit["responses"].keys()
    assert "security" not in guarded["paths"]["/healthz"]["get"]


@pytest.mark.parametrize("job", [QUEUED_JOB, WAITING_JOB, SUCCEEDED_JOB, FAILED_JOB, CANCELED_JOB])
def test_examples_match_their_schema(job: dict[str, Any]) -> None:
    JobObject.model_validate(job, strict=True)


def test_real_jobs_match_the_schema_and_have_no_other_members(gateway: Gateway) -> None:
    queued = gateway.client.post("/v1/jobs", data=draw(), content_type="image/png").get_json()
    waiting = gateway.client.get(queued["urls"]["self"]).get_json()
    gateway.finish([queued["id"]])
    finished = gateway.client.get(queued["urls"]["self"]).get_json()
    for job in (queued, waiting, finished):
        JobObject.model_validate(job, strict=True)
        assert set(job) <= set(JobObject.model_fields)


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_pages_load_only_from_this_server(shared_gateway: Gateway, page: str) -> None:
    response = shared_gateway.client.get(page)
    assert response.status_code == 200
    assert "script-src 'self';" in response.headers["Content-Security-Policy"]
    for url in re.findall(r'(?:src|href)="([^"]+)"', response.text):
        assert url == "data:," or shared_gateway.client.get(url).status_code == 200, url


def test_redoc_loads_no_external_logo(shared_gateway: Gateway) -> None:
    script = shared_gateway.client.get("/docs/redoc.standalone.js")
    assert script.mimetype == "text/javascript"
    assert "cdn.redoc" not in script.text


def test_no_other_files_are_served(shared_gateway: Gateway) -> None:
    for name in ("nope.js", "..%2Fapp.py", "%2e%2e%2fapp.py", "docs.html"):
        assert shared_gateway.client.get(f"/docs/{name}").status_code == 404


@pytest.mark.parametrize(
    ("query", "detail"),
    [("queue=fast", "queue='fast': must be 'interactive' or 'bulk'."), ("deadline_s=-1", "deadline_s='-1': must be")],
)
def test_the_error_names_the_invalid_parameter(shared_gateway: Gateway, query: str, detail: str) -> None:
    response = shared_gateway.client.post(f"/v1/jobs?{query}", data=draw(), content_type="image/png")
    assert response.status_code == 400
    assert detail in response.get_json()["detail"]


def test_the_document_is_valid_and_every_reference_resolves(document: dict[str, Any]) -> None:
    from openapi_spec_validator import OpenAPIV31SpecValidator

    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []
    references = set(re.findall(r"'\$ref': '([^']+)'", str(document)))
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references <= known
