"""Google Cloud Storage's XML protocol in front of an S3 server, which speaks it but for one header (documented)."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_SIGNED = "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=none"
"""Without a signature moto takes the request for the public's; it checks none."""


@contextmanager
def gcs_front(s3_url: str) -> Iterator[str]:
    """Pass each request on, with ``x-goog-if-generation-match: 0`` as ``If-None-Match: *``; yield the front's URL."""
    behind = urlsplit(s3_url).netloc

    class Front(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name: value for name, value in self.headers.items() if name.lower() != "authorization"}
            headers["Authorization"] = _SIGNED
            if headers.pop("x-goog-if-generation-match", None) == "0":
                headers["If-None-Match"] = "*"
            connection = http.client.HTTPConnection(behind, timeout=10)
            connection.request(self.command, self.path, body or None, headers)
            answer = connection.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "date", "server"):
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
            connection.close()

        do_GET = do_PUT = do_HEAD = pass_on

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Front)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
