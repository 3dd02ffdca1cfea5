"""The buttons and dialogs that change models, and who may use them."""

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest
from flask import g

from contract.access import Scope
from contract.ledger.models import Change, ChangeKind, Model, Shadow, VersionInfo
from dashboard.app import create_app
from dashboard.pages.model_changes import buttons_of, dialog_of, lines_of, patch_of, send_change
from dashboard.sign_in import Viewer
from tests.unit.dashboard.conftest import MakeWorld, heartbeat

VERSIONS = {version: VersionInfo(["owl", "wren"], 8, 8) for version in ("1", "2", "3")}
MODEL = Model("birds", "1", 5, VERSIONS)
CANARY = Change("2", "", "", 6, 0, 0, 1, kind=ChangeKind.CANARY, percent=5.0, auto_rollback=True)
SHADOW = Shadow("3", 0.2, "", "", 6, 0)


def test_buttons_do_only_what_is_possible() -> None:
    assert [disabled for _, disabled in buttons_of(MODEL)] == [False, True, False, False]
    alone = replace(MODEL, versions={"1": VERSIONS["1"]}, previous="1")
    assert [disabled for _, disabled in buttons_of(alone)] == [True, False, True, True]
    busy = replace(MODEL, change=CANARY, previous="2")
    assert [disabled for _, disabled in buttons_of(busy)] == [True, True, False, False]
    promoting = replace(MODEL, change=replace(CANARY, kind=ChangeKind.LIVE))
    assert [disabled for _, disabled in buttons_of(promoting)] == [True, True, True, False]
    assert not buttons_of(replace(promoting, canary=CANARY))[2][1]
    both = replace(MODEL, canary=CANARY, shadow=SHADOW)
    assert [text for text, _ in buttons_of(both)][2:] == ["End the canary ...", "Remove the shadow ..."]


@pytest.mark.parametrize(
    ("action", "model", "title", "expected"),
    [
        ("promote", MODEL, "Promote a version of birds", {"live": "2"}),
        ("rollback", replace(MODEL, previous="3"), "Roll birds back to 3", {"rollback": True}),
        (
            "canary",
            MODEL,
            "Start a canary of birds",
            {"canary": {"version": "2", "percent": 5, "auto_rollback": False}},
        ),
        ("canary", replace(MODEL, canary=CANARY), "End the canary 2 of birds", {"canary": None}),
        ("canary", replace(MODEL, change=CANARY), "End the canary 2 of birds", {"canary": None}),
        ("shadow", MODEL, "Set a shadow of birds", {"shadow": {"version": "2", "sample": 0.2}}),
        ("shadow", replace(MODEL, shadow=SHADOW), "Remove the shadow 3 of birds", {"shadow": None}),
    ],
)
def test_the_dialog_names_the_change_that_is_sent(
    action: str, model: Model, title: str, expected: dict[str, Any]
) -> None:
    dialog = dialog_of(model, action)
    assert dialog.title == title
    asked = {"model": "birds", "action": action, "revision": 5, "fields": list(dialog.fields)}
    chosen = {"version": "2", "percent": 5, "auto_rollback": False, "sample": 20}
    assert patch_of(asked, chosen, "better") == {"why": "better", "revision": 5} | expected


def test_the_state_of_a_model_is_told_in_sentences() -> None:
    model = replace(MODEL, previous="2", canary=CANARY, shadow=replace(SHADOW, problem="It crashed a worker."))
    assert lines_of(model, []) == [
        "1 is live. Before it was 2.",
        "Canary: 2 processes 5 % of the jobs, which ends by itself if it is worse.",
        "Shadow: 3 predicts 20 % of the images. It was stopped: It crashed a worker.",
    ]
    change = Change("2", "ada", "better", 6, 0, 1)
    workers = [replace(heartbeat(name), serves=["birds"]) for name in ("a", "b")]
    assert lines_of(replace(MODEL, change=change), workers)[-1] == (
        "In progress since 00:00:00 UTC by ada (better): 2 is loaded by 0 of 2 workers."
    )
    failed = replace(change, settled_ms=1, problem="It needs more memory.")
    assert lines_of(replace(MODEL, last_change=failed), [])[-1].endswith(
        ": 2 did not become live, and nothing changed. It needs more memory."
    )


@pytest.mark.parametrize(
    ("scopes", "why", "problem"),
    [
        ((Scope.ADMIN,), "better", ""),
        ((Scope.ADMIN,), "", "Give a reason."),
        ((Scope.READ, Scope.SUBMIT), "better", "the scope `admin`"),
    ],
)
def test_only_admins_change_models_and_give_a_reason(
    make_world: MakeWorld, scopes: tuple[Scope, ...], why: str, problem: str
) -> None:
    world = make_world(access_required=True)
    world.server.responses["/v1/models/birds"] = httpx.Response(202, json={"revision": 6})
    owner, key = world.make_key(*scopes)
    asked = {"model": "birds", "action": "promote", "revision": 5, "fields": ["version"]}
    with create_app(world.services).test_request_context():
        g.viewer = Viewer(owner, api_key=key)
        answer = send_change(world.services, asked, {"version": "2"}, why)
    assert problem in answer.problem
    assert (answer.values is None) == bool(problem)
    if not problem:
        request = world.server.requests[-1]
        assert json.loads(request.content) == {"live": "2", "why": "better", "revision": 5}
        assert request.headers["Authorization"] == f"Bearer {key}"
    else:
        assert not world.server.requests
