"""A Flask route that only reads the body: the minimum cost of a submit. `python -m benchmarks.reading_route PORT`."""

import sys
from typing import Any

from flask import Flask, request
from gunicorn.app.base import BaseApplication


class ReadingApplication(BaseApplication):  # type: ignore[misc]
    """Runs like the gateway: one gunicorn process with a gevent worker."""

    def load_config(self) -> None:
        options = {"bind": f"127.0.0.1:{sys.argv[1]}", "worker_class": "gevent", "keepalive": 75, "loglevel": "warning"}
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        app = Flask("reading")

        @app.post("/v1/jobs")
        def read() -> str:
            return str(len(request.get_data(cache=False)))

        return app


if __name__ == "__main__":
    ReadingApplication().run()
