"""What EC2 tells a machine of itself (instance metadata, version 2), for machines in network namespaces: each is known by its address.

    metadata.py FILE      {"10.0.0.21": {"instance-id": "i-…", "local-ipv4": "10.0.0.21", …}, …}, read anew for each question
"""

import http.server
import json
import sys

TOKEN = "a-token-of-this-session"


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, text=""):
        body = text.encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self):
        if self.path == "/latest/api/token" and self.headers.get("X-aws-ec2-metadata-token-ttl-seconds"):
            return self.answer(200, TOKEN)
        return self.answer(400)

    def do_GET(self):
        # Version 1, without a token, is off.
        if self.headers.get("X-aws-ec2-metadata-token") != TOKEN:
            return self.answer(401)
        with open(sys.argv[1]) as file:
            machine = json.load(file).get(self.client_address[0], {})
        path = self.path.removeprefix("/latest/meta-data/").rstrip("/")
        if path == "iam/security-credentials":
            return self.answer(200, "role")
        if path == "iam/security-credentials/role":
            credentials = {"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": "ASIATEST", "SecretAccessKey": "secret", "Token": "token"}
            return self.answer(200, json.dumps({**credentials, "LastUpdated": "2026-01-01T00:00:00Z", "Expiration": "2099-01-01T00:00:00Z"}))
        return self.answer(200, machine[path]) if path in machine else self.answer(404)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("169.254.169.254", 80), Handler).serve_forever()
