"""LitServe: its server collects batches, one worker process decodes and predicts them."""

import sys
from collections.abc import Sequence
from typing import Any

import litserve
import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request

from benchmarks.peers.servers.model import MAX_BATCH, MAX_WAIT_MS, Classifier, decode


class Api(litserve.LitAPI):
    """The steps of a request, as LitServe names them."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - the signature of LitServe
        """Load the model."""
        self._classify = Classifier()

    # LitServe reads forms only if the annotation is exactly this class, although it passes the form.
    def decode_request(self, request: Request) -> NDArray[np.uint8]:
        """Decode the image in the form's field `image`."""
        form: Any = request
        return decode(form["image"].file.read())

    def batch(self, inputs: Sequence[NDArray[np.uint8]]) -> Sequence[NDArray[np.uint8]]:
        """Leave the batch as it is: the classifier stacks its images."""
        return inputs

    def predict(self, batch: Sequence[NDArray[np.uint8]]) -> list[dict[str, list[float]]]:
        """Classify a batch."""
        return self._classify(batch)

    def unbatch(self, output: list[dict[str, list[float]]]) -> list[dict[str, list[float]]]:
        """One response for each image."""
        return output

    # FastAPI would validate a response with a more exact annotation, which takes time.
    def encode_response(self, output: dict[str, list[float]]) -> Any:
        """Leave the response as it is."""
        return output


if __name__ == "__main__":
    api = Api(max_batch_size=MAX_BATCH, batch_timeout=MAX_WAIT_MS / 1000)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="error", generate_client_file=False)
