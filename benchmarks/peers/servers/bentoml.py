"""BentoML: one worker with adaptive batches."""

from pathlib import Path

import bentoml

from benchmarks.peers.servers.model import MAX_BATCH, Classifier, decode


@bentoml.service(workers=1, traffic={"timeout": 60})
class Classify:
    """The service that `bentoml serve` starts."""

    def __init__(self) -> None:
        self._classify = Classifier()

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH)
    def predict(self, images: list[Path]) -> list[dict[str, list[float]]]:
        """Classify a batch of uploaded files."""
        return self._classify([decode(path.read_bytes()) for path in images])
