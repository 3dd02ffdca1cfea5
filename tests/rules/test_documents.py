"""What documents say is what the code does."""

import re
import tomllib
from pathlib import Path

import pytest

from benchmarks.scaling import Costs, table
from bundle.decode import FORMATS as DECODED
from contract.settings_table import render
from gateway import VERSION
from gateway.accept.check import FORMATS as ACCEPTED
from tests.support.services import ROOT
from tests.unit.gateway.conftest import Gateway

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("models/**/*.md")])


def test_the_settings_page_is_made_from_the_table() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == render(), "run `make docs`"


def test_the_page_of_the_interface_is_made_from_its_document() -> None:
    from gateway.http import api_page

    assert (ROOT / "docs" / "api.md").read_text() == api_page.render(), "run `make docs`"


def test_every_endpoint_is_documented_and_every_documented_one_is_there(gateway: Gateway) -> None:
    rules = {
        f"{method} {rule.rule}"
        for rule in gateway.client.application.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    text = (ROOT / "docs" / "architecture.md").read_text()
    documented = set(re.findall(r"^\| `((?:GET|POST|PUT|DELETE) /[^`?]*)`", text, re.MULTILINE))
    assert documented == rules


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_make_targets_of_documents_exist(document: Path) -> None:
    text = document.read_text()
    for link in re.findall(r"\]\((?!http|#)([^)#\s]+)", text):
        assert (document.parent / link).exists(), link
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for target in re.findall(r"(?:^|`|[A-Z]=\S+ )make ([a-z][a-z-]*)", text, re.MULTILINE):
        assert target in targets, target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_name_settings_that_exist(document: Path) -> None:
    known = set(re.findall(r"PAWQUEUE_[A-Z_]+[A-Z]", render())) | {"PAWQUEUE_DATA", "PAWQUEUE_URL", "PAWQUEUE_API_KEY"}
    assert set(re.findall(r"PAWQUEUE_[A-Z_]+[A-Z]", document.read_text())) <= known


def test_gateway_and_bundle_agree_on_formats() -> None:
    assert ACCEPTED == DECODED


def test_there_is_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION


def test_the_page_on_scaling_holds_the_table_of_the_simulation() -> None:
    assert table(Costs()) in (ROOT / "docs" / "scaling.md").read_text()
