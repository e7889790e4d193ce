"""A small server that speaks the part of the hub's protocol that an upload and a download of small files need."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

TOKEN = "hf_test"


class Hub(BaseHTTPRequestHandler):
    """One repository, its revisions, and whether it is private."""

    repo: ClassVar[str]
    files: ClassVar[dict[str, bytes]] = {}
    private: bool | None = None
    commits = 0

    def answer(self, status: int, body: Any = b"", **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *args: object) -> None: ...

    def do_POST(self) -> None:
        body = (
            self.rfile.read(int(self.headers["Content-Length"])) if "Content-Length" in self.headers else self.chunks()
        )
        if self.path == "/oauth/device":  # RFC 8628
            page = f"http://{self.headers['Host']}/device"
            self.answer(200, {"device_code": "d", "user_code": "AB-12", "verification_uri": page, "interval": 1})
        elif self.path == "/oauth/token":  # its user has typed the code
            self.answer(200, {"access_token": TOKEN, "token_type": "bearer", "expires_in": 86_400})
        elif self.headers["Authorization"] != f"Bearer {TOKEN}" and self.path != "/api/validate-yaml":
            self.answer(401)
        elif self.path == "/api/repos/create":
            if Hub.private is None:
                Hub.private = json.loads(body)["visibility"] == "private"
            self.answer(200, {"url": f"http://{self.headers['Host']}/{self.repo}"})
        elif self.path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            asked = json.loads(body)["files"]
            modes = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]
            self.answer(200, {"files": modes})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    Hub.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            Hub.commits += 1
            address = f"http://{self.headers['Host']}/{self.repo}/commit/{self.sha}"
            self.answer(200, {"commitUrl": address, "commitOid": self.sha, "success": True})
        else:
            self.answer(404)

    def chunks(self) -> bytes:
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    @property
    def sha(self) -> str:
        return f"3f2a9c1{Hub.commits:033x}"

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path == "/api/whoami-v2":
            known = self.headers["Authorization"] == f"Bearer {TOKEN}"
            token = {"type": "access_token", "accessToken": {"displayName": "test", "role": "write"}}
            self.answer(200 if known else 401, {"type": "user", "name": "me", "auth": token})
            return
        if path.startswith(f"/api/models/{self.repo}/tree/"):
            sizes = {name: len(data) for name, data in Hub.files.items()}
            self.answer(200, [{"type": "file", "path": n, "size": size, "oid": "0" * 40} for n, size in sizes.items()])
        elif path.startswith(f"/api/models/{self.repo}"):
            revision = path.partition("/revision/")[2]
            if revision != "main" and not self.sha.startswith(revision):
                self.answer(404, X_Error_Code="RevisionNotFound")
                return
            siblings = [{"rfilename": name} for name in Hub.files]
            found = {"id": self.repo, "sha": self.sha, "private": Hub.private, "siblings": siblings}
            self.answer(200, found)
        elif path.startswith(f"/{self.repo}/resolve/"):
            data = Hub.files[path.split("/", 5)[5]]
            etag = hashlib.sha1(data).hexdigest()
            self.answer(200, data, ETag=f'"{etag}"', X_Repo_Commit=self.sha)
        else:
            self.answer(404, X_Error_Code="RepoNotFound")

    do_HEAD = do_GET


@contextmanager
def serving(repo: str) -> Iterator[str]:
    """The address of a hub where one repository, not there yet, can be made."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Hub.repo, Hub.files, Hub.private, Hub.commits = repo, {}, None, 0
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
