"""`answers_after.py PORT FILE`: opens the port once FILE exists, and answers 200 to all."""

import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


while not Path(sys.argv[2]).exists():
    time.sleep(0.02)
server = HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer)
print("listens", flush=True)
server.serve_forever()
