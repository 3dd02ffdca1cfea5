"""Ray Serve: one replica that batches requests."""

import sys

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.peers.servers.model import MAX_BATCH, MAX_REQUESTS, MAX_WAIT_MS, Classifier, decode


@serve.deployment(max_ongoing_requests=MAX_REQUESTS)
class Classify:
    """The replica."""

    def __init__(self) -> None:
        self._classify = Classifier()

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=MAX_WAIT_MS / 1000)
    async def predict(self, images: list[bytes]) -> list[dict[str, list[float]]]:
        """Classify a batch."""
        return self._classify([decode(data) for data in images])

    async def __call__(self, request: Request) -> dict[str, list[float]]:
        """Classify the image in the body."""
        return await self.predict(await request.body())


if __name__ == "__main__":
    ray.init(include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Classify.bind(), blocking=True)  # type: ignore[attr-defined]
