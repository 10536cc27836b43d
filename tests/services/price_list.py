"""The Price List of AWS as far as the catalogue asks it: an emulator of its protocol, since moto has none."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextlib.contextmanager
def price_list(prices: Mapping[tuple[str, str], float], host: str = "127.0.0.1") -> Iterator[str]:
    """Answer GetProducts with the price an hour of types in regions, and give the address of the server."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.headers["X-Amz-Target"] == "AWSPriceListService.GetProducts"
            fields = {one["Field"]: one["Value"] for one in asked["Filters"]}
            assert (asked["ServiceCode"], fields["operatingSystem"]) == ("AmazonEC2", "Linux")
            price = prices.get((fields["instanceType"], fields["regionCode"]))
            found = [] if price is None else [_product(price)]
            body = json.dumps({"FormatVersion": "aws_v1", "PriceList": found}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((host, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://{host}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def _product(price: float) -> str:
    free = {"unit": "Hrs", "pricePerUnit": {"USD": "0.0000000000"}}
    dimension = {"unit": "Hrs", "pricePerUnit": {"USD": f"{price:.10f}"}}
    return json.dumps({"terms": {"OnDemand": {"a": {"priceDimensions": {"a.1": free, "a.2": dimension}}}}})
