"""The process that imports a network, started by `cli.py`.

It reads a request from standard input, and writes messages to standard output: a JSON object per line.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from importer.errors import ImportFailedError
from importer.files import KerasFile, open_keras_file
from importer.labels import read_labels
from importer.request import Request
from importer.scale import SCALES, parse_scale
from importer.source import Source, find_source


def main() -> None:
    """Import one network; the last message is the result or an error."""
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no message

    def send(**message: Any) -> None:
        messages.write(json.dumps(message) + "\n")
        messages.flush()

    request = Request.from_dict(json.loads(sys.stdin.readline()))
    folder = Path(tempfile.mkdtemp(prefix="pawqueue-import-"))
    try:
        send(result=_import(request, folder, lambda topic, text: send(topic=topic, text=text)))
    except ImportFailedError as error:
        send(error=str(error))
    except MemoryError:
        send(error=f"{request.source} needs more memory than there is.")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _import(request: Request, folder: Path, say: Any) -> dict[str, Any]:
    source = find_source(request.source, folder)
    labels = read_labels(request.labels, request.labels_from) or source.labels
    scale = SCALES["-1..1"] if source.is_machine else None
    if request.scale is not None:
        scale = parse_scale(request.scale)
    if request.check and not Path(request.check).is_dir():
        raise ImportFailedError(f"--check: {request.check} is not a folder.")
    file = open_keras_file(source.path, source.shown, folder) if source.kind == "keras" else None
    say("source", f"{source.shown} ({_what(source, file)})")
    os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    if file and file.is_keras2:
        os.environ["TF_USE_LEGACY_KERAS"] = "1"  # for `tf.keras` in the files of `--module`
    from importer.run import Found, import_network  # noqa: PLC0415 - loads TensorFlow, which reads the variables

    return import_network(request, Found(source, file, labels, scale, folder), say)


def _what(source: Source, file: KerasFile | None) -> str:
    if file is None:
        return "SavedModel"
    machine = "Teachable Machine, " if source.is_machine else ""
    return f"{machine}Keras {file.keras_version}, {file.weights.stat().st_size / 1e6:.1f} MB"


if __name__ == "__main__":
    main()
