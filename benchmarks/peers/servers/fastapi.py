"""FastAPI on uvicorn: decodes and predicts each image by itself, in a thread of the request."""

import sys

import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool

from benchmarks.peers.servers.model import Classifier, decode

app = FastAPI()
classify = Classifier()


def predict(data: bytes) -> dict[str, list[float]]:
    """Classify one image."""
    return classify([decode(data)])[0]


@app.post("/predict")
async def respond(request: Request) -> dict[str, list[float]]:
    """Classify the image in the body."""
    return await run_in_threadpool(predict, await request.body())


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="error")
