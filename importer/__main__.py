"""The process that imports a network, started by `cli.py`.

It reads a request from standard input, and writes messages to standard output: a JSON object per line.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from bundle.manifest import BundleError
from importer.request import ImportFailedError, Request
from importer.source import Found, find


def main(folder: Path) -> None:
    """Import one network; the last message is the result or an error. `folder` is for temporary files."""
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no message

    def send(**message: Any) -> None:
        messages.write(json.dumps(message) + "\n")
        messages.flush()

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C also reaches the command, which then stops this process
    signal.signal(signal.SIGTERM, _stop)
    request = Request.from_dict(json.loads(sys.stdin.readline()))
    try:
        send(result=_import(request, folder, lambda topic, text: send(topic=topic, text=text)))
    except (ImportFailedError, BundleError) as error:
        send(error=str(error))
    except OSError as error:
        send(error=f"The bundle cannot be written ({error.strerror or error}).")
    except MemoryError:
        send(error=f"{request.source} needs more memory than there is.")
    except SystemExit as stopped:
        os._exit(int(stopped.code or 0))  # TensorFlow would take seconds to exit


def _stop(number: int, _frame: object) -> None:
    """End the import, once: what it has written is then deleted without another interruption."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _import(request: Request, folder: Path, say: Any) -> dict[str, Any]:
    found = find(request, folder)
    say("source", f"{found.source.shown} ({_what(found)})")
    os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    if found.file and found.file.is_keras2:
        os.environ["TF_USE_LEGACY_KERAS"] = "1"  # for `tf.keras` in the files of `--module`
    from importer.run import import_network  # noqa: PLC0415 - loads TensorFlow, which reads the variables

    return import_network(request, found, say)


def _what(found: Found) -> str:
    if found.file is None:
        return "SavedModel"
    machine = "Teachable Machine, " if found.source.is_teachable_machine else ""
    return f"{machine}Keras {found.file.keras_version}, {found.file.weights.stat().st_size / 1e6:.1f} MB"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
