"""The part of the Models page that changes models: buttons, a dialog that asks for a reason, and the progress.

Changes go through the gateway's `PATCH /v1/models/{name}`, with the viewer's API key.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component
from dash.exceptions import PreventUpdate

from contract.access import Scope
from contract.errors import UnavailableError
from contract.ledger.models import Change, ChangeKind, Model
from contract.ledger.types import Heartbeat
from dashboard.data.gateway import Answer
from dashboard.pages.page import View
from dashboard.parts.card import aria
from dashboard.parts.text import clock_s, count
from dashboard.services import Services
from dashboard.sign_in import current_viewer, refusal_of

_POLL_MS = 1000
_WHY_MAX = 500
_ACTIONS = ("promote", "rollback", "canary", "shadow")
#: The fields of the dialog that an action needs, besides the reason.
_FIELDS = {
    "promote": ("version",),
    "canary": ("version", "percent", "auto"),
    "shadow": ("version", "sample"),
}


@dataclass(frozen=True, slots=True)
class Dialog:
    """What the dialog asks before a change."""

    title: str
    #: What will happen.
    text: str
    #: Versions to choose from; none if there is no choice.
    versions: Sequence[str] = ()
    fields: Sequence[str] = ()


def change_section(view: View) -> list[Component]:
    """The state of a model and the buttons that change it; nothing for viewers who may not change models."""
    live = view.snapshot.status.live
    if not view.viewer.sees_all or not live:
        return []
    chosen = view.snapshot.status.default_model
    names = [{"value": name, "label": name} for name in live]
    model = dmc.Select(
        id="change-model",
        label="Model",
        data=names,
        value=chosen if chosen in live else next(iter(live)),
        allowDeselect=False,
    )
    buttons = [html.Button(id=f"change-{name}", type="button", className="button") for name in _ACTIONS]
    parts = [
        html.Div(html.H2("Change a model", id="change-title"), className="card-head"),
        html.Div([model, html.Div(buttons, className="actions")], className="change"),
        html.Div(id="change-status", role="status"),
        _dialog(),
        dcc.Store(id="change-asked"),
        dcc.Store(id="change-sent"),
        dcc.Interval(id="change-poll", interval=_POLL_MS, disabled=True),
    ]
    return [html.Section(parts, className="card is-wide", **aria(labelledby="change-title"))]


def _dialog() -> Component:
    fields = [
        html.P(id="change-text"),
        html.Div(dmc.Select(id="change-version", label="Version", allowDeselect=False), id="change-version-field"),
        html.Div(
            dmc.NumberInput(id="change-percent", label="Share of the jobs in %", value=5, min=0.1, max=50),
            id="change-percent-field",
        ),
        html.Div(
            dmc.Switch(id="change-auto", label="End it by itself if it is worse", checked=True), id="change-auto-field"
        ),
        html.Div(
            dmc.NumberInput(id="change-sample", label="Share of the images in %", value=20, min=0.1, max=100),
            id="change-sample-field",
        ),
        dmc.TextInput(id="change-why", label="Reason", description="It is recorded with the change", required=True),
        html.P(id="change-problem", className="problem", role="alert"),
        html.Div(
            [
                html.Button("Confirm", id="change-confirm", type="button", className="button"),
                html.Button("Cancel", id="change-cancel", type="button", className="button"),
            ],
            className="actions",
        ),
    ]
    dialog: Component = dmc.Modal(
        id="change-dialog",
        children=html.Div(fields, className="change-dialog"),
        closeButtonProps={"aria-label": "Close"},
    )
    return dialog


def register(app: Dash, services: Services) -> None:
    """Register the callbacks."""

    @app.callback(
        Output("change-status", "children"),
        Output("change-poll", "disabled"),
        *(Output(f"change-{name}", prop) for name in _ACTIONS for prop in ("children", "disabled")),
        Input("change-model", "value"),
        Input("change-poll", "n_intervals"),
        Input("models-tick", "n_intervals"),
        Input("change-sent", "data"),
    )
    def show(name: str, *_: Any) -> tuple[Any, ...]:
        model = _read(services, name)
        if model is None:
            raise PreventUpdate
        buttons = [value for button in buttons_of(model) for value in button]
        return [html.P(line) for line in lines_of(model, services.reader.latest.workers)], not model.change, *buttons

    _register_dialog(app, services)


def _register_dialog(app: Dash, services: Services) -> None:
    @app.callback(
        Output("change-dialog", "opened"),
        Output("change-dialog", "title"),
        Output("change-text", "children"),
        Output("change-version", "data"),
        Output("change-version", "value"),
        *(Output(f"change-{field}-field", "hidden") for field in ("version", "percent", "auto", "sample")),
        Output("change-why", "value"),
        Output("change-problem", "children"),
        Output("change-asked", "data"),
        *(Input(f"change-{name}", "n_clicks") for name in _ACTIONS),
        State("change-model", "value"),
        prevent_initial_call=True,
    )
    def ask(*values: Any) -> tuple[Any, ...]:
        model, action = _read(services, values[-1]), str(ctx.triggered_id).removeprefix("change-")
        if model is None or not ctx.triggered[0]["value"]:
            raise PreventUpdate
        dialog = dialog_of(model, action)
        hidden = [field not in dialog.fields for field in ("version", "percent", "auto", "sample")]
        asked = {"model": model.name, "action": action, "revision": model.revision, "fields": list(dialog.fields)}
        first = dialog.versions[0] if dialog.versions else None
        return True, dialog.title, dialog.text, list(dialog.versions), first, *hidden, "", "", asked

    @app.callback(
        Output("change-dialog", "opened", allow_duplicate=True),
        Output("change-problem", "children", allow_duplicate=True),
        Output("change-sent", "data"),
        Input("change-confirm", "n_clicks"),
        Input("change-cancel", "n_clicks"),
        State("change-asked", "data"),
        *(State(f"change-{field}", "value") for field in ("version", "percent", "sample", "why")),
        State("change-auto", "checked"),
        prevent_initial_call=True,
    )
    def send(_confirmed: Any, _canceled: Any, asked: Any, *values: Any) -> tuple[Any, Any, Any]:
        if not ctx.triggered[0]["value"] or not asked:
            raise PreventUpdate
        if ctx.triggered_id == "change-cancel":
            return False, "", no_update
        version, percent, sample, why, auto = values
        chosen = {"version": version, "percent": percent, "auto_rollback": bool(auto), "sample": sample}
        answer = send_change(services, asked, chosen, str(why or "").strip())
        if answer.values is None:
            return no_update, answer.problem, no_update
        return False, "", answer.values["revision"]


def send_change(services: Services, asked: Mapping[str, Any], chosen: Mapping[str, Any], why: str) -> Answer:
    """Begin the change that the dialog asked about, if the viewer may change models."""
    if refusal := refusal_of(services.access, Scope.ADMIN):
        return Answer(problem=refusal)
    if not why:
        return Answer(problem="Give a reason.")
    body = patch_of(asked, chosen, why[:_WHY_MAX])
    return services.gateway.change_model(str(asked["model"]), body, current_viewer().api_key)


def _read(services: Services, name: str) -> Model | None:
    try:
        return services.reader.ledger.models.model(name)
    except UnavailableError:
        return None


def buttons_of(model: Model) -> list[tuple[str, bool]]:
    """Text of each button, and whether it is disabled."""
    is_changing, others = model.change is not None, _others(model)
    has_canary = _canary_to_end(model) is not None
    return [
        ("Promote a version ...", is_changing or not others),
        ("Roll back ...", is_changing or not model.previous),
        ("End the canary ..." if has_canary else "Start a canary ...", not has_canary and (is_changing or not others)),
        ("Remove the shadow ..." if model.shadow else "Set a shadow ...", not others and not model.shadow),
    ]


def dialog_of(model: Model, action: str) -> Dialog:
    """What to ask before an action."""
    name, live, others = model.name, model.live, _others(model)
    loading = "All workers of the model load it beside the live version. If one cannot, nothing changes."
    if action == "promote":
        text = f"The version that you choose processes all jobs that name no version, instead of {live}. {loading}"
        return Dialog(f"Promote a version of {name}", text, others, _FIELDS[action])
    if action == "rollback":
        text = f"The version {model.previous} processes all jobs that name no version, instead of {live}. {loading}"
        return Dialog(f"Roll {name} back to {model.previous}", text)
    if action == "canary" and (canary := _canary_to_end(model)):
        text = f"The version {live} processes all jobs again that name no version, at once."
        return Dialog(f"End the canary {canary.version} of {name}", text)
    if action == "canary":
        text = f"The version that you choose processes a share of the jobs that name no version, {live} the others. "
        return Dialog(f"Start a canary of {name}", text + loading, others, _FIELDS[action])
    if model.shadow:
        text = "It predicts no more images. What it predicted so far is kept."
        return Dialog(f"Remove the shadow {model.shadow.version} of {name}", text)
    text = "The version that you choose predicts some images after the live one, while no job waits. Clients never get "
    return Dialog(f"Set a shadow of {name}", f"{text}its results.", others, _FIELDS[action])


def patch_of(asked: Mapping[str, Any], chosen: Mapping[str, Any], why: str) -> dict[str, Any]:
    """The body of the request for a change."""
    action, fields = asked["action"], asked["fields"]
    body: dict[str, Any] = {"why": why, "revision": asked["revision"]}
    if action == "promote":
        return body | {"live": chosen["version"]}
    if action == "rollback":
        return body | {"rollback": True}
    if not fields:  # ends it
        return body | {action: None}
    if action == "canary":
        terms = {name: chosen[name] for name in ("version", "percent", "auto_rollback")}
        return body | {"canary": terms}
    return body | {"shadow": {"version": chosen["version"], "sample": (chosen["sample"] or 0) / 100}}


def lines_of(model: Model, workers: Sequence[Heartbeat]) -> list[str]:
    """The state of a model, a sentence each."""
    lines = [f"{model.live} is live." + (f" Before it was {model.previous}." if model.previous else "")]
    if model.canary:
        by_itself = ", which ends by itself if it is worse" if model.canary.auto_rollback else ""
        lines.append(f"Canary: {model.canary.version} processes {model.canary.percent:g} % of the jobs{by_itself}.")
    if model.shadow:
        stopped = f" It was stopped: {model.shadow.problem}" if model.shadow.problem else ""
        lines.append(f"Shadow: {model.shadow.version} predicts {100 * model.shadow.sample:g} % of the images.{stopped}")
    if change := model.change:
        taking = [beat for beat in workers if beat.takes_jobs_of(model.name)]
        loaded = sum(_holds(beat, model.name, change.version) for beat in taking)
        lines.append(
            f"In progress{_asked_by(change)}: {change.version} is loaded by {loaded} of {count(len(taking), 'worker')}."
        )
    elif last := model.last_change:
        lines.append(f"Last change{_asked_by(last)}: {_outcome(last)}")
    return lines


def _canary_to_end(model: Model) -> Change | None:
    """The canary of a model, or the one that workers are loading."""
    is_loading = model.change is not None and model.change.kind == ChangeKind.CANARY
    return model.change if is_loading else model.canary


def _others(model: Model) -> list[str]:
    return [version for version in model.versions if version != model.live]


def _holds(beat: Heartbeat, name: str, version: str) -> bool:
    return any((item.name, item.version, item.state) == (name, version, "ready") for item in beat.models)


def _asked_by(change: Change) -> str:
    by = f" by {change.by}" if change.by else ""
    why = f" ({change.why})" if change.why else ""
    return f" since {clock_s(change.started_ms / 1000)} UTC{by}{why}"


def _outcome(change: Change) -> str:
    if change.kind == ChangeKind.CANARY_END:
        return f"the canary {change.version} ended. {change.problem}".strip()
    wanted = "the canary" if change.kind == ChangeKind.CANARY else "live"
    if change.problem:
        return f"{change.version} did not become {wanted}, and nothing changed. {change.problem}"
    return f"{change.version} became {wanted}."
