"""Training runs from a real MLflow server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from playwright.sync_api import expect

from tests.dashboard.test_pages import overflow, violations
from tests.support.dashboard import running_dashboard
from tests.support.mlflow import starting_mlflow, wait_for_mlflow
from tests.support.services import Stack

pytestmark = pytest.mark.slow

RUNS = {
    "baseline": ({"val_accuracy": 0.81}, {"learning_rate": "0.001", "seed": "1"}),
    "<b>compact": ({"val_accuracy": 0.96}, {"learning_rate": "0.003", "seed": "1"}),
}


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server with two runs."""
    with starting_mlflow(tmp_path_factory.mktemp("mlflow")) as url:
        wait_for_mlflow(url)
        client = MlflowClient(url)
        experiment = client.create_experiment("pawqueue")
        for name, (metrics, params) in RUNS.items():
            run_id = client.create_run(experiment, run_name=name).info.run_id
            for metric, value in metrics.items():
                client.log_metric(run_id, metric, value)
            for param, text in params.items():
                client.log_param(run_id, param, text)
            client.set_terminated(run_id)
        yield url


def test_runs_are_shown_side_by_side(stack: Stack, mlflow: str, new_tab: Any, tmp_path: Path) -> None:
    with running_dashboard(tmp_path, stack.environ, mlflow_tracking_uri=mlflow) as dashboard:
        page = new_tab(dashboard.url).open("/models")
        table = page.locator("#models-runs table")
        expect(table).to_contain_text("0.96")
        assert table.locator("th").all_inner_texts() == ["Run", "<b>compact", "baseline"]
        rows = [row.locator("td").all_inner_texts() for row in table.locator("tbody tr").all()]
        assert ["val_accuracy", "0.96", "0.81"] in rows
        assert ["learning_rate", "0.003", "0.001"] in rows
        assert "seed" not in table.inner_text()  # its values are equal
        assert not violations(page)
        assert overflow(page) <= 0


def test_an_unreachable_server_is_reported(stack: Stack, new_tab: Any, tmp_path: Path) -> None:
    with running_dashboard(tmp_path, stack.environ, mlflow_tracking_uri="http://127.0.0.1:9") as dashboard:
        page = new_tab(dashboard.url).open("/models")
        expect(page.locator("#models-runs-note")).to_contain_text("Unavailable since")
