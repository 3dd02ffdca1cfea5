"""The documentation matches the code."""

import re
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.scaling import Costs, table
from bundle.decode import FORMATS as DECODED
from contract.settings import OLD_REDIS_PORT, PREFIX, Settings, is_secret, settings_page, variable_of
from gateway import VERSION
from gateway.accept.header import FORMATS as ACCEPTED
from gateway.accept.header import NAMES
from pawqueue.bulk.files import ENDINGS
from tests.support.services import ROOT
from tests.unit.gateway.conftest import Gateway
from training.data.archives import IMAGE_SUFFIXES

DOCUMENTS = sorted(
    path for pattern in ("*.md", "*/*.md", "docs/decisions/*.md", "models/*/*.md") for path in ROOT.glob(pattern)
)
#: Written by a command that the document explains.
GENERATED = {"deploy/compose/secrets"}
#: Variables of the tests, the client, Compose and earlier versions, which are not settings of a service.
OTHER_VARIABLES = {"PAWQUEUE_DATA", "PAWQUEUE_URL", "PAWQUEUE_API_KEY", "PAWQUEUE_PUBLISH", OLD_REDIS_PORT}


def test_the_settings_page_is_up_to_date() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == settings_page(), "run `make docs`"


def test_the_api_page_is_up_to_date() -> None:
    from gateway.http import api_page

    assert (ROOT / "docs" / "api.md").read_text() == api_page.render(), "run `make docs`"


def test_the_architecture_page_lists_exactly_the_endpoints_that_exist(gateway: Gateway) -> None:
    rules = {
        f"{method} {rule.rule}"
        for rule in gateway.client.application.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    text = (ROOT / "docs" / "architecture.md").read_text()
    documented = set(re.findall(r"^\| `((?:GET|POST|PUT|PATCH|DELETE) /[^`?]*)`", text, re.MULTILINE))
    assert documented == rules


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_make_targets_in_documents_exist(document: Path) -> None:
    text = document.read_text()
    for link in re.findall(r"\]\((?!http|#)([^)#\s]+)", text):
        assert (document.parent / link).exists(), link
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for target in re.findall(r"(?:^|`|[A-Z]=\S+ )make ([a-z][a-z-]*)", text, re.MULTILINE):
        assert target in targets, target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_named_in_documents_exist(document: Path) -> None:
    code = "benchmarks|bundle|contract|dashboard|deploy|gateway|importer|pawqueue|tests|training|worker"
    folders = f"{code}|docs|examples|models"
    named = set(re.findall(rf"`((?:{folders})/[\w./-]+)`", document.read_text())) - GENERATED
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_settings_named_in_documents_exist(document: Path) -> None:
    known = set(re.findall(r"PAWQUEUE_[A-Z_]+[A-Z]", settings_page())) | OTHER_VARIABLES
    known |= {f"{variable_of(name)}_FILE" for name in Settings.model_fields if is_secret(name)}
    assert set(re.findall(r"PAWQUEUE_[A-Z_]+[A-Z]", document.read_text())) <= known


def test_the_limits_of_the_security_page_are_the_defaults_of_their_settings() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    rows = re.findall(r"^\|[^|\n]+\| ([^|\n]+) \| `(PAWQUEUE_[A-Z_]+)` \|$", text, re.MULTILINE)
    documented = {setting: default for default, setting in rows}
    assert documented == {name: _default_of(name) for name in documented}
    limits = {name for name in Settings.model_fields if "_max_" in name or "_limit" in name or name.endswith("_ttl_s")}
    assert {variable_of(name) for name in limits} <= documented.keys()


def _default_of(variable: str) -> str:
    """The default of a setting with its unit, as documents write it: `2,000 bytes`."""
    field = Settings.model_fields[variable.removeprefix(PREFIX).lower()]
    default, extra = field.default, field.json_schema_extra
    assert isinstance(extra, dict)
    if isinstance(default, str):
        return default
    number = f"{default:,g}" if isinstance(default, float) else f"{default:,}"
    return f"{number} {extra['unit']}".strip()


def test_gateway_worker_client_and_training_support_the_same_formats() -> None:
    format_of = Image.registered_extensions()
    assert ACCEPTED == DECODED
    assert set(NAMES) == set(ACCEPTED)
    assert {format_of[ending] for ending in ENDINGS} == set(DECODED)
    assert set(ENDINGS) == IMAGE_SUFFIXES


def test_package_and_gateway_have_the_same_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION


def test_the_scaling_page_contains_the_table_of_the_simulation() -> None:
    text = (ROOT / "docs" / "scaling.md").read_text()
    assert table(Costs()) in text, "run `python -m benchmarks.scaling` and copy its table to docs/scaling.md"


def test_the_documented_path_of_an_image_has_at_most_twenty_files_which_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    walk = re.findall(r"^\| (\d+) \| `([\w/.]+)` \|", text, re.MULTILINE)
    assert [int(number) for number, _ in walk] == list(range(1, len(walk) + 1))
    assert 0 < len(walk) <= 20
    assert all((ROOT / path).is_file() for _, path in walk)


def test_the_architecture_page_lists_every_service_folder() -> None:
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    text = (ROOT / "docs" / "architecture.md").read_text()
    assert set(re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE)) == set(rules["root_packages"])
