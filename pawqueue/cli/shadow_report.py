"""What `pawqueue models report` prints about shadows."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from pawqueue.cli.display import escaped
from pawqueue.client.client import Pawqueue
from pawqueue.client.errors import RefusedError

_DISAGREEMENTS_SHOWN = 10


def read_shadows(client: Pawqueue, model: str, days: int) -> dict[str, Any]:
    """The agreement of a model's shadows, and the latest disagreements, if the API key may read them."""
    found: dict[str, Any] = {"shadows": client.model_agreement(model, days=days)["pairs"], "disagreements": []}
    try:
        found["disagreements"] = client.model_disagreements(model, limit=_DISAGREEMENTS_SHOWN)
    except RefusedError as error:
        if error.code != "forbidden":
            raise
    return found


def show_shadows(console: Console, found: Mapping[str, Any]) -> None:
    """Print what `read_shadows` returned; nothing if there was no shadow."""
    for row in found["shadows"]:
        console.print(_agreement(row), soft_wrap=True, highlight=False)
    if found["disagreements"]:
        console.print(_disagreements(found["disagreements"]))


def _agreement(row: Mapping[str, Any]) -> str:
    live, shadow, right = escaped(row["live"]), escaped(row["shadow"]), row["feedback"]
    text = (
        f"Shadow {shadow} and version {live} agree on {row['agreed']:,} of {row['compared']:,} images "
        f"(95 % interval {100 * row['low']:.1f} to {100 * row['high']:.1f} %)."
    )
    if right["total"]:
        live_right, shadow_right = (right["both"] + right[f"only_{side}"] for side in ("live", "shadow"))
        text += (
            f" With a right label: {right['total']:,}; {live} was right on {live_right:,}, {shadow} on {shadow_right:,}"
            f" (McNemar p = {right['p_value']:.3f})."
        )
    return text


def _disagreements(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title="Latest images on which they differ", title_justify="left")
    table.add_column("job", no_wrap=True)
    for name in ("result", "shadow"):
        table.add_column(name)
    for row in rows:
        live = f"{escaped(row['label'])} {100 * row['confidence']:.0f} %"
        shadow = f"{escaped(row['shadow_label'])} {100 * row['shadow_confidence']:.0f} %"
        table.add_row(row["job_id"], live, shadow)
    return table
