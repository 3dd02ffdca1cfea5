// The buttons and keys of the Review page. An action is sent once for each image: its turn is in `data-turn`.
(function () {
    "use strict";
    const BUSY_MS = 10000;
    let sentStage = null, sentTurn = "", sentAt = 0;

    function send(element, action) {
        const stage = element.closest("#review-stage"), turn = element.closest("[data-turn]").dataset.turn;
        if (stage === sentStage && turn === sentTurn && Date.now() - sentAt < BUSY_MS) {
            return;
        }
        sentStage = stage;
        sentTurn = turn;
        sentAt = Date.now();
        window.dash_clientside.set_props("review-act", {data: {...action, turn: Number(turn), at: sentAt}});
    }

    function onClick(event) {
        const button = event.target.closest && event.target.closest("#review-stage [data-act]");
        if (!button) {
            return;
        }
        // After a click with the mouse, the focus would stay on the button, and the space bar would press it again.
        if (event.detail > 0) {
            document.getElementById("review-stage").focus({preventScroll: true});
        }
        send(button, {what: button.dataset.act, label: button.dataset.label});
    }

    const isTyping = (target) => target.matches("input:not([type=checkbox]), textarea, select, [contenteditable]");
    const usesSpace = (target) => target.closest("button, a, summary, input, [role=option]") !== null;

    function onKey(event) {
        const stage = document.getElementById("review-stage"), keys = document.getElementById("review-keys");
        if (!stage || !keys || !keys.checked || event.repeat || event.altKey || isTyping(event.target)) {
            return;
        }
        const isUndo = event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey);
        if (!isUndo && (event.ctrlKey || event.metaKey)) {
            return;
        }
        const key = isUndo ? "u" : event.key === " " ? "space" : event.key.toLowerCase();
        if (key === "space" && usesSpace(event.target)) {
            return;
        }
        if (key === "/" && document.getElementById("review-search")) {
            event.preventDefault();
            document.getElementById("review-search").focus();
            return;
        }
        const buttons = Array.from(stage.querySelectorAll("[data-act]:not(:disabled)"));
        const button = buttons.find((one) => one.dataset.keys.split(" ").includes(key));
        if (button) {
            event.preventDefault();
            send(button, {what: button.dataset.act, label: button.dataset.label});
        }
    }

    function chooseLabel(label) {
        const stage = document.getElementById("review-stage");
        if (label && stage) {
            stage.focus({preventScroll: true});
            send(stage.querySelector("[data-act]"), {what: "label", label: label});
        }
        return window.dash_clientside.no_update;
    }

    document.addEventListener("click", onClick);
    document.addEventListener("keydown", onKey);
    Object.assign(window.dash_clientside.pawqueue, {chooseLabel});
})();
