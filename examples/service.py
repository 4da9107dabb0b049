"""A service that answers with a class: every question is counted, and none is lost when it fails.

    python examples/service.py
    python examples/service.py --steps 300

Starts a service on this machine that tells which piece of clothing it sees, attacks it over HTTP,
and compares its own count of what it was asked with the result's. Then the service fails half way,
and what was found until then is still there.
"""

from __future__ import annotations

import argparse
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.error import HTTPError
from urllib.request import urlopen

from advex.cli.quiet import wake_keras

wake_keras()  # without the lines that its C++ libraries write

import keras
import numpy as np

import advex
from advex import zoo


class Service(HTTPServer):
    """Takes pictures as raw float32, answers with a JSON list of classes.

    Args:
        model: a Keras model.
        most: it fails for good once it has been asked about more pictures.
    """

    def __init__(self, model: keras.Model, most: float = float("inf")) -> None:
        super().__init__(("127.0.0.1", 0), Answer)  # any port that is free
        self.model, self.most = model, most
        self.requests = self.pictures = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        super().__exit__(*error)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Answer(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        pictures = np.frombuffer(body, "float32").reshape(-1, 28, 28, 1)
        service = self.server
        if service.pictures + len(pictures) > service.most:
            self.send_error(503)
            return
        service.requests += 1
        service.pictures += len(pictures)
        scores = keras.ops.convert_to_numpy(service.model(pictures, training=False))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(scores.argmax(axis=1).tolist()).encode())

    def log_message(self, *words: object) -> None:
        """Not a line for each request."""


def asking(service: Service) -> advex.BlackBox:
    """The service as something that can be attacked."""

    def predict(x: np.ndarray) -> list[int]:
        with urlopen(service.address, data=np.ascontiguousarray(x).tobytes()) as answer:
            return json.load(answer)

    return advex.BlackBox(predict, classes=10, answers="labels")


def main() -> tuple[advex.Result, advex.Result]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200, help="queries per picture (default 200)")
    arguments = parser.parse_args()
    images, labels = zoo.fashion_images()
    x, labels = images[:8], labels[:8]
    model, attack = zoo.fashion_mnist().model, advex.CGBA(steps=arguments.steps)

    with Service(model) as service:
        result = attack(asking(service), x, labels, advex.L2())
    print(result)
    counted, reported = service.pictures, int(result.queries.sum())
    print(f"Asked about {counted} pictures in {service.requests} requests; reported: {reported}")
    assert counted == reported

    with Service(model, most=counted // 2) as service:
        try:
            attack(asking(service), x, labels, advex.L2())
        except HTTPError as error:  # as urlopen has raised it
            error.close()
            stopped = error.result
            print(f"The service failed, {error}, after {service.pictures} pictures. Until then:")
    print(stopped)

    with Service(model) as service:
        again = attack(asking(service), x, labels, advex.L2(), start=stopped)
    print(f"Begun from there: {np.median(stopped.distance):.2f} -> {np.median(again.distance):.2f}")
    return result, stopped


if __name__ == "__main__":
    main()
