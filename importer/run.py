"""The import, step by step, once the source is known."""

from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.golden import golden_inputs
from bundle.manifest import Imported, InputSpec, sha256_of
from bundle.store import open_model_store
from importer import build_keras, build_saved_model, wrap
from importer.check import check_folder
from importer.labels import check_labels
from importer.network import Network
from importer.outputs import Meaning, check_probabilities, decide
from importer.proof import prove
from importer.request import Request
from importer.scale import SCALES, Scale, missing_scale
from importer.source import Found
from importer.writing import Plan, write

#: Called with a topic and what there is to say about it.
Say = Callable[[str, str], None]
#: More labels are shown shortened.
_SHOWN_LABELS = 40


def import_network(
    request: Request, found: Found, say: Say, prove: Callable[..., dict[str, float]] = prove
) -> dict[str, Any]:
    """Import a network; returns what was made, as plain values.

    `prove` is called with the new bundle, pixels and what the network returns for them, before the bundle is kept.

    Raises:
        ImportFailedError: it cannot be imported as requested. The store is unchanged.
    """
    source = found.source
    if found.file is not None:
        network = build_keras.build(found.file, request, found.folder)
    else:
        network = build_saved_model.build(source.path, source.shown, request)
    form = network.form
    color = "RGB" if form.channels == 3 else "grey"
    say("network", f"{network.name}: {form.height} x {form.width} {color}")
    for note in network.notes:
        say("note", note)
    scale = _choose_scale(network, found, say)
    images = _test_images(form.height, form.width)
    raw = network.raw(wrap.prepared(images, form, scale))
    meaning = decide(raw, network.last_operation(), network.loss, multi_label=request.multi_label)
    say("outputs", meaning.text)
    labels = _say_labels(found.labels, meaning, say)
    resize = request.resize or ("crop" if source.is_teachable_machine else "squash")
    how = request.filter or "bilinear"
    of_machine = " (Teachable Machine)" if source.is_teachable_machine else " (default)"
    say("resize", f"{resize}{'' if request.resize else of_machine}, {how}{'' if request.filter else ' (default)'}")
    plan = Plan(
        request=request,
        network=network,
        scale=scale,
        meaning=meaning,
        labels=labels,
        input=InputSpec(height=form.height, width=form.width, resize=resize, filter=how),
        imported=Imported(
            kind=found.kind,
            file=Path(source.shown).name if not source.shown.startswith("hf://") else source.shown,
            sha256=source.sha256(),
            scale=scale.name,
            modules={Path(module).name: sha256_of(Path(module)) for module in request.modules},
            trusted_code=request.trust_code,
        ),
    )
    check_probabilities(wrap.finished(raw, meaning.end), meaning)
    checked = check_folder(plan, Path(request.check)) if request.check else None
    expected = plan.probabilities(images)
    differences: dict[str, float] = {}

    def check(folder: Path) -> None:
        differences.update(prove(folder, images, expected, trust_code=request.trust_code))

    store = open_model_store(request.store, found.folder)
    manifest = write(plan, store, _libraries(), check)
    for precision, difference in differences.items():
        say("proof", f"loaded in a fresh process, in {precision}: within {difference:.7f} of the network")
    for line in checked.lines() if checked else ():
        say("check", line)
    if manifest.unsafe_operations:
        say(
            "note",
            f"Workers load this bundle only with PAWQUEUE_TRUST_BUNDLE_CODE=true: it contains "
            f"{', '.join(manifest.unsafe_operations)}.",
        )
    return {
        "name": request.name,
        "version": plan.version,
        "folder": store.address(request.name, plan.version),
        "format": manifest.format,
        "labels": labels,
        "input": manifest.input.model_dump(),
        "scale": scale.name,
        "output": meaning.output,
        "differences": differences,
        "check": asdict(checked) if checked else None,
        "unsafe_operations": manifest.unsafe_operations,
    }


def _choose_scale(network: Network, found: Found, say: Say) -> Scale:
    inside, given = network.scaling(), found.scale
    if given is None and not inside:
        raise missing_scale()
    scale = given or SCALES["none"]
    wrap.check_scale(network.form, scale)
    if inside and not scale.is_none:
        say(
            "warning",
            f"The network scales its input itself ({', '.join(inside)}), and --scale {scale.name} comes before it.",
        )
    elif given is None:
        say("scale", f"in the network ({', '.join(inside)})")
        return scale
    say("scale", scale.name + (" (Teachable Machine)" if found.source.is_teachable_machine else ""))
    return scale


def _say_labels(labels: list[str] | None, meaning: Meaning, say: Say) -> list[str]:
    warnings = check_labels(labels, meaning.labels)
    assert labels is not None  # noqa: S101 - `check_labels` refuses None
    shown = list(enumerate(labels))
    if len(shown) > _SHOWN_LABELS:
        shown = [*shown[: _SHOWN_LABELS // 2], *shown[-_SHOWN_LABELS // 2 :]]
    say("labels", ", ".join(f"{number} {label}" for number, label in shown))
    for warning in warnings:
        say("warning", warning)
    return labels


def _test_images(height: int, width: int) -> NDArray[np.uint8]:
    """The golden inputs, and noise of several kinds."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (4, height, width, 3), dtype=np.uint8)
    flat = np.broadcast_to(random.integers(0, 256, (4, 1, 1, 3), dtype=np.uint8), (4, height, width, 3))
    return np.concatenate([golden_inputs(height, width), noise, flat])


def _libraries() -> dict[str, str]:
    versions = {}
    for name in ("numpy", "tf-keras"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
