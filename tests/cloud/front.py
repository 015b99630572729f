"""Stands before AWS' stand-in, which knows nothing of machines that are about to come or go: writes down what is said of these, says yes to it, and
passes all else on.

    front.py ADDRESS PORT BEHIND FILE      BEHIND: the stand-in's port on this machine
"""

import http.client
import http.server
import json
import sys
import urllib.parse

ADDRESS, PORT, BEHIND, FILE = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
LIFECYCLE = ("CompleteLifecycleAction", "RecordLifecycleActionHeartbeat")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self):
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def pass_on(self):
        body = self.body()
        asked = dict(urllib.parse.parse_qsl(body.decode("latin-1"))) if b"Action=" in body else {}
        if asked.get("Action") in LIFECYCLE:
            with open(FILE, "a") as file:
                file.write(json.dumps(asked) + "\n")
            name = asked["Action"]
            return self.answer(200, [], f"<{name}Response><{name}Result/></{name}Response>".encode())
        behind = http.client.HTTPConnection("127.0.0.1", BEHIND, timeout=60)
        hop = ("transfer-encoding", "expect", "connection", "content-length")
        headers = {name: value for name, value in self.headers.items() if name.lower() not in hop}
        behind.request(self.command, self.path, body, headers)
        answer = behind.getresponse()
        headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in ("content-length", "transfer-encoding", "connection")]
        # Of a HEAD the length is what matters.
        length = answer.getheader("content-length") if self.command == "HEAD" else None
        self.answer(answer.status, headers, answer.read(), length)
        behind.close()

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = pass_on

    def answer(self, status, headers, body, length=None):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("content-length", length or str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer((ADDRESS, PORT), Handler).serve_forever()
