"""The Review page: shows doubtful images one by one; a reviewer says what each one shows, with the keyboard alone.

The browser calls `act` with what the reviewer did, and shows what it returns. The keys are in `assets/review.js`.
"""

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component
from dash.exceptions import PreventUpdate
from flask import Flask, Response, request

from contract.access import Scope
from contract.images.formats import is_shown_by_browsers, media_type_of
from contract.job import is_job_id
from contract.ledger.reviews import ReviewReason
from dashboard.data.gateway import Answer, GatewayClient
from dashboard.pages.page import Page, View, in_browser
from dashboard.parts.card import aria, with_code
from dashboard.parts.gallery import confidence_bar
from dashboard.services import Services
from dashboard.sign_in import current_viewer, refusal_of

#: The lease of an image, a minute, is renewed this often, and this many times after the last action.
_RENEW_MS, _RENEWALS = 25_000, 24
#: Actions that can be undone.
_PAST_MAX = 50
#: Beyond this number of labels, the page has a search field instead of a button for each.
_BUTTONS_MAX = 9
#: Letters that are keys of other actions.
_TAKEN_LETTERS = "u"
_REASONS = {
    ReviewReason.LOW_CONFIDENCE: "The model is not sure.",
    ReviewReason.UNFAMILIAR: "The image is unlike those that the model was trained on.",
    ReviewReason.SHADOW_DISAGREES: "Another version of the model predicted another label.",
}
_NONE_KEPT = (
    "No images are kept for review. Workers keep doubtful images if `PAWQUEUE_REVIEW_BELOW` is set, for example to 0.8."
)


@dataclass(frozen=True, slots=True)
class Session:
    """What the browser stores between two actions."""

    #: Identifies this page to the gateway.
    reviewer: str
    #: Grows with every new image, so that no action is applied to an image that is no longer shown.
    turn: int = 0
    #: The image that is shown; empty if none is.
    job_id: str = ""
    file: str = ""
    #: Images that were labeled or skipped, latest last, and those that were shown before an undo.
    past: Sequence[str] = field(default_factory=tuple)
    ahead: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Shown:
    """What the page shows after an action."""

    state: Session
    #: What the action did.
    message: str
    #: The gateway's response, with the image and the counts; None if there was no response.
    claim: Mapping[str, Any] | None
    problem: str = ""


def layout(_view: View, _cards: list[Component]) -> list[Component]:
    """The progress, the image with its labels, and what the page stores."""
    state = Session(secrets.token_hex(8))
    keys = [
        *_keys("1 ... 9 or the first letter: label", "space: skip", "u: undo"),
        dmc.Switch(id="review-keys", label="Keyboard shortcuts", checked=True, persistence=True, size="sm"),
    ]
    return [
        html.Div([html.Div(id="review-progress"), html.Div(keys, className="keys")], className="row"),
        html.P(id="review-message", className="note", role="status"),
        html.Div(html.P("Loading ...", className="note"), id="review-stage", tabIndex=-1),
        dcc.Store(id="review-state", data=asdict(state)),
        dcc.Store(id="review-act"),
        dcc.Interval(id="review-renew", interval=_RENEW_MS, max_intervals=_RENEWALS),
    ]


def _keys(*texts: str) -> list[Component]:
    return [html.Span(text, className="more") for text in texts]


def register(app: Dash, services: Services) -> None:
    """Register the callback and the route of images."""
    server: Flask = app.server

    @app.callback(
        Output("review-state", "data"),
        Output("review-message", "children"),
        Output("review-progress", "children"),
        Output("review-stage", "children"),
        Output("review-renew", "n_intervals"),
        Input("review-act", "data"),
        Input("review-renew", "n_intervals"),
        State("review-state", "data"),
    )
    def show(action: dict[str, Any] | None, ticks: int | None, data: dict[str, Any]) -> Any:
        state = _state_from(data)
        is_tick = ctx.triggered_id == "review-renew"
        if is_tick and not ticks:  # this callback has set it to 0
            raise PreventUpdate
        if refusal := _refusal(services):
            return no_update, "", "", _problem(refusal, state), no_update
        gateway, key = services.gateway, current_viewer().api_key
        if is_tick:
            shown = renew(gateway, state, key)
            if shown is None:
                raise PreventUpdate
        else:
            shown = act(gateway, state, action or {}, key)
        return (
            asdict(shown.state),
            with_code(shown.message),
            _bar(shown.claim),
            _stage(shown, request.script_root),
            no_update if is_tick else 0,
        )

    in_browser(app, "chooseLabel", Output("review-search", "className"), Input("review-search", "value"))

    @server.get("/review/<job_id>/image")
    def image(job_id: str) -> Response | tuple[str, int]:
        data = None
        if is_job_id(job_id) and not _refusal(services):
            data = services.gateway.review_image(job_id, current_viewer().api_key)
        if data is None or not is_shown_by_browsers(data):
            return "Image not found.", 404
        return Response(data, mimetype=media_type_of(data), headers={"Cache-Control": "no-store"})


PAGE = Page(
    "review",
    "/review",
    "Review",
    "Say what doubtful images really show. Each label counts in the accuracy of the model.",
    layout=layout,
    register=register,
)


def _refusal(services: Services) -> str:
    """Why the viewer may not review; empty if they may.

    The gateway decides which images they see. If it requires no API keys, it shows all, so they must be an admin.
    """
    scopes = (Scope.READ, Scope.SUBMIT) if services.gateway_requires_keys else (Scope.ADMIN,)
    return refusal_of(services.access, *scopes)


def act(gateway: GatewayClient, state: Session, action: Mapping[str, Any], api_key: str) -> Shown:
    """Label or skip the image that is shown, or undo that, and get the next one."""
    what, label = action.get("what"), action.get("label")
    if what and action.get("turn") != state.turn:
        raise PreventUpdate  # the browser has sent it twice
    if what == "undo":
        return _undo(gateway, state, api_key)
    message = ""
    if what in ("label", "skip") and state.job_id:
        answer = gateway.label_review(state.job_id, state.reviewer, str(label) if what == "label" else None, api_key)
        if answer.values is None and answer.code not in ("conflict", "not_found"):
            return _stay(gateway, state, answer, api_key)
        message = answer.problem or _done(state, str(label) if what == "label" else "")
        if answer.values is not None:
            state = replace(state, past=(*state.past, state.job_id)[-_PAST_MAX:])
    return _next(gateway, state, message, api_key)


def renew(gateway: GatewayClient, state: Session, api_key: str) -> Shown | None:
    """Renew the lease of the image that is shown, or look for one if none is; None if nothing changes on the page."""
    if not state.job_id:
        shown = _next(gateway, state, "", api_key)
        return shown if shown.state.job_id else None
    answer = gateway.claim_review(state.reviewer, api_key, state.job_id)
    if answer.code in ("conflict", "not_found"):
        return _next(gateway, state, answer.problem, api_key)
    return None


def _done(state: Session, label: str) -> str:
    name = state.file or "the image"
    return f"Labeled {name} as {label}." if label else f"Skipped {name}. It comes again in ten minutes."


def _next(gateway: GatewayClient, state: Session, message: str, api_key: str) -> Shown:
    """Show the image that was shown before an undo, or else the one that waits longest."""
    while state.ahead:
        *ahead, job_id = state.ahead
        state = replace(state, ahead=tuple(ahead))
        answer = gateway.claim_review(state.reviewer, api_key, job_id)
        if answer.values is not None:
            return _shown(state, answer, message)
    return _shown(state, gateway.claim_review(state.reviewer, api_key), message)


def _undo(gateway: GatewayClient, state: Session, api_key: str) -> Shown:
    if not state.past:
        return _stay(gateway, state, Answer(problem="There is nothing to undo."), api_key)
    *past, job_id = state.past
    answer = gateway.claim_review(state.reviewer, api_key, job_id)
    if answer.values is None:
        gone = answer.code in ("conflict", "not_found")
        return _stay(gateway, replace(state, past=tuple(past)) if gone else state, answer, api_key)
    ahead = (*state.ahead, state.job_id) if state.job_id else state.ahead
    return _shown(replace(state, past=tuple(past), ahead=ahead[-_PAST_MAX:]), answer, "Took the last action back.")


def _stay(gateway: GatewayClient, state: Session, answer: Answer, api_key: str) -> Shown:
    """Show the same image again, with the problem."""
    again = gateway.claim_review(state.reviewer, api_key, state.job_id)
    return replace(_shown(state, again, answer.problem), problem=answer.problem)


def _shown(state: Session, answer: Answer, message: str) -> Shown:
    image = (answer.values or {}).get("image") or {}
    state = replace(state, turn=state.turn + 1, job_id=str(image.get("job_id", "")), file=str(image.get("file", "")))
    return Shown(state, message, answer.values, answer.problem)


def _state_from(data: Mapping[str, Any]) -> Session:
    fields = Session.__dataclass_fields__
    return Session(**{name: value for name, value in data.items() if name in fields})


def _bar(claim: Mapping[str, Any] | None) -> list[Component]:
    if not claim or not claim["kept"]:
        return []
    reviewed, kept = claim["reviewed"], claim["kept"]
    text = f"{reviewed:,} of {kept:,} reviewed"
    return [html.Strong(text), html.Progress(value=str(reviewed), max=str(kept), **aria(label=text))]


def _stage(shown: Shown, root: str) -> list[Component]:
    claim, state = shown.claim, shown.state
    if claim is None:
        return _problem(shown.problem, state)
    if not claim["image"]:
        text = "No image waits for a review." if claim["kept"] else _NONE_KEPT
        return [_turn(state, [html.P(with_code(text)), _actions(state, ("next", "Look again", ""))])]
    image = claim["image"]
    picture = html.Div(html.Img(src=_source(image, root), alt=f"Image to review: {image['file'] or 'no file name'}"))
    answers = [
        html.H2("What does it show?"),
        *_labels(image),
        _actions(state, ("skip", "Skip", "Space"), ("undo", "Undo", "u")),
    ]
    facts = [
        *(html.Dt("Predicted"), html.Dd(html.Strong(image["predicted"]))),
        *(html.Dt("Confidence"), html.Dd(confidence_bar(image["confidence"]))),
        *(html.Dt("Reason"), html.Dd(_REASONS.get(image["reason"], str(image["reason"])))),
        *(html.Dt("File"), html.Dd(image["file"] or "no file name")),
        *(html.Dt("Model"), html.Dd(f"{image['model']['name']}@{image['model']['version']}")),
    ]
    return [_turn(state, [picture, html.Div([*answers, html.Dl(facts, className="facts")])], "review")]


def _turn(state: Session, parts: list[Component], class_name: str = "") -> Component:
    turn: dict[str, Any] = {"data-turn": str(state.turn)}
    made: Component = html.Div(parts, className=class_name, **turn)
    return made


def _problem(problem: str, state: Session) -> list[Component]:
    text = html.P(with_code(problem), className="problem", role="alert")
    return [_turn(state, [text, _actions(state, ("next", "Try again", ""))])]


def _source(image: Mapping[str, Any], root: str) -> str:
    if image["preview"]:
        return f"data:image/webp;base64,{image['preview']}"
    return f"{root}/review/{image['job_id']}/image"


def _labels(image: Mapping[str, Any]) -> list[Component]:
    """A button for each label; with many labels, one for the predicted label and a search field for the others."""
    labels = list(image["labels"]) or [image["predicted"]]
    if len(labels) <= _BUTTONS_MAX:
        return [html.Div(_buttons(labels, image["predicted"]), className="labels")]
    search = dmc.Select(
        id="review-search",
        label="Another label",
        description="Press / and type",
        data=labels,
        searchable=True,
        nothingFoundMessage="The model has no such label.",
        limit=50,
    )
    return [html.Div(_buttons([image["predicted"]], image["predicted"]), className="labels"), search]


def _buttons(labels: Sequence[str], predicted: str) -> list[Component]:
    letters = keys_of(labels)
    return [
        _button(("label", label, str(number)), letters.get(label, ""), label, is_predicted=label == predicted)
        for number, label in enumerate(labels, 1)
    ]


def keys_of(labels: Sequence[str]) -> dict[str, str]:
    """The first letter of each label that begins with a letter of its own."""
    firsts = {label: label[:1].lower() for label in labels}
    counts = Counter(firsts.values())
    return {
        label: letter
        for label, letter in firsts.items()
        if letter.isalpha() and counts[letter] == 1 and letter not in _TAKEN_LETTERS
    }


def _button(action: tuple[str, str, str], letter: str, label: str, *, is_predicted: bool) -> Component:
    what, value, key = action
    keys = " ".join(filter(None, (key, letter)))
    data: dict[str, Any] = {"data-act": what, "data-label": value, "data-keys": keys}
    hint = f"{key} or {letter}" if letter else key
    parts = [html.Kbd(hint), html.Span(label), *([html.Span("predicted", className="more")] if is_predicted else [])]
    button: Component = html.Button(parts, type="button", className="button", **data, **aria(keyshortcuts=keys))
    return button


def _actions(state: Session, *actions: tuple[str, str, str]) -> Component:
    """Buttons that do something else than label; each is (what, text, key)."""
    if state.past and all(what != "undo" for what, _, _ in actions):
        actions = (*actions, ("undo", "Undo", "u"))
    return html.Div(
        [_action(*action, is_disabled=action[0] == "undo" and not state.past) for action in actions],
        className="actions",
    )


def _action(what: str, text: str, key: str, *, is_disabled: bool) -> Component:
    data: dict[str, Any] = {"data-act": what, "data-keys": key.lower()} | (aria(keyshortcuts=key) if key else {})
    parts = [*([html.Kbd(key.lower())] if key else []), html.Span(text)]
    button: Component = html.Button(parts, type="button", className="button", disabled=is_disabled, **data)
    return button
