"""A hub of models on the loopback interface: the few routes of its API that a download and an upload need."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote


class Hub(ThreadingHTTPServer):
    """One repository, whose files are those of a folder.

    Attributes:
        asked: paths, in order. size: that is told of each file, in the place of its own.
    """

    def __init__(self, folder: Path, repo: str, commit: str) -> None:
        super().__init__(("127.0.0.1", 0), _Routes)
        self.folder, self.repo, self.commit = folder, repo, commit
        self.asked: list[str] = []
        self.size: int | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


AHub = TypeVar("AHub", bound=Hub)


class _Routes(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        hub, path = self.server, unquote(self.path.partition("?")[0])
        hub.asked.append(path)
        api = f"/api/models/{hub.repo}/revision/"
        files = f"/{hub.repo}/resolve/{hub.commit}/"
        if path in (f"{api}main", f"{api}{hub.commit}"):
            told = {"id": hub.repo, "sha": hub.commit, "siblings": self._siblings()}
            self._send(200, json.dumps(told).encode(), body, {"Content-Type": "application/json"})
        elif path.startswith(files) and (hub.folder / path.removeprefix(files)).is_file():
            data = (hub.folder / path.removeprefix(files)).read_bytes()
            etag = f'"{hashlib.sha256(data).hexdigest()}"'
            self._send(200, data, body, {"ETag": etag, "X-Repo-Commit": hub.commit})
        else:
            self._send(404, b"{}", body, {"X-Error-Code": "RepoNotFound"})

    def _siblings(self) -> list[dict[str, Any]]:
        names = sorted(one.name for one in self.server.folder.iterdir())
        return [{"rfilename": name, "size": self.server.size} for name in names]

    def _send(self, status: int, data: bytes, body: bool, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(data))}).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


class UploadHub(Hub):
    """A hub that takes uploads of whoever has its token; at first it has no repository.

    Attributes:
        exists, private: of the repository. branches: that there are.
        kept: large objects by their SHA-256. put: of each that came, in order.
        dies_at: a path's end, at which the connection is dropped without an answer.
    """

    def __init__(self, folder: Path, repo: str, token: str) -> None:
        super().__init__(folder, repo, "0" * 40)
        self.RequestHandlerClass = _UploadRoutes
        self.token, self.exists, self.private, self.branches = token, False, False, {"main"}
        self.kept: dict[str, bytes] = {}
        self.put: list[str] = []
        self.large: dict[str, str] = {}
        self.dies_at: str | None = None
        self.n_commits = 0


class _UploadRoutes(_Routes):
    server: UploadHub

    def _answer(self, body: bool) -> None:
        path = unquote(self.path.partition("?")[0])
        if path.startswith("/api/") and not self._may():
            return
        prefix = f"/api/models/{self.server.repo}/revision/"
        if path.startswith(prefix) and self.server.exists:
            branch = path.removeprefix(prefix)
            if branch not in {*self.server.branches, self.server.commit}:
                self._send(404, b"{}", body, {"X-Error-Code": "RevisionNotFound"})
                return
            told = {
                "id": self.server.repo,
                "sha": self.server.commit,
                "private": self.server.private,
                "siblings": self._siblings(),
            }
            self._send(200, json.dumps(told).encode(), body, {"Content-Type": "application/json"})
            return
        super()._answer(body)

    def _siblings(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = [{"rfilename": ".gitattributes", "size": 0, "blobId": "0" * 40}]
        for path in sorted(one for one in self.server.folder.rglob("*") if one.is_file()):
            name, data = str(path.relative_to(self.server.folder)), path.read_bytes()
            # Git's name of a blob: SHA-1 of `blob SIZE\0CONTENT`.
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            told: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": blob}
            if name in self.server.large:
                told |= {"lfs": {"sha256": self.server.large[name], "size": len(data), "pointerSize": 130}}
            found.append(told)
        return found

    def do_POST(self) -> None:
        hub, path = self.server, unquote(self.path.partition("?")[0])
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        hub.asked.append(path)
        if hub.dies_at is not None and path.endswith(hub.dies_at):
            self.close_connection = True
            return
        if path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif not self._may():
            pass
        elif path == "/api/repos/create":
            status = 409 if hub.exists else 200
            hub.private = hub.private if hub.exists else json.loads(content).get("visibility") == "private"
            hub.exists = True
            self._json({"url": f"{hub.endpoint}/{hub.repo}"}, status)
        elif not hub.exists:
            self._send(404, b"{}", True, {"X-Error-Code": "RepoNotFound"})
        elif path.startswith(f"/api/models/{hub.repo}/branch/"):
            hub.branches.add(path.rpartition("/")[2])
            self._json({})
        elif path.startswith(f"/api/models/{hub.repo}/preupload/"):
            asked = json.loads(content)["files"]
            modes = [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if one["path"].endswith((".safetensors", ".parquet")) else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for one in asked
            ]
            self._json({"files": modes})
        elif path == f"/{hub.repo}.git/info/lfs/objects/batch":
            objects = []
            for one in json.loads(content)["objects"]:
                where = {"upload": {"href": f"{hub.endpoint}/lfs/{one['oid']}", "header": {}}}
                objects.append(one | ({} if one["oid"] in hub.kept else {"actions": where}))
            self._json({"transfer": "basic", "objects": objects})
        elif path.startswith(f"/api/models/{hub.repo}/commit/"):
            self._commit([json.loads(line) for line in content.splitlines()])
        else:
            self._send(404, b"{}", True, {})

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        oid = self.path.rpartition("/")[2]
        assert hashlib.sha256(content).hexdigest() == oid
        self.server.kept[oid] = content
        self.server.put.append(oid)
        self._json({})

    def _commit(self, lines: list[dict[str, Any]]) -> None:
        hub = self.server
        hub.n_commits += 1
        hub.commit = hashlib.sha1(str(hub.n_commits).encode()).hexdigest()
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self._write(value["path"], base64.b64decode(value["content"]))
                hub.large.pop(value["path"], None)
            elif line["key"] == "lfsFile":
                self._write(value["path"], hub.kept[value["oid"]])
                hub.large[value["path"]] = value["oid"]
            elif line["key"] == "deletedFile":
                (hub.folder / value["path"]).unlink()
        address = f"{hub.endpoint}/{hub.repo}/commit/{hub.commit}"
        self._json({"success": True, "commitUrl": address, "commitOid": hub.commit})

    def _write(self, name: str, content: bytes) -> None:
        path = self.server.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def _may(self) -> bool:
        allowed = self.headers.get("Authorization") == f"Bearer {self.server.token}"
        if not allowed:
            self._send(401, b'{"error": "Invalid credentials"}', True, {"Content-Type": "application/json"})
        return allowed

    def _json(self, value: dict[str, Any], status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), True, {"Content-Type": "application/json"})


@contextmanager
def serving(server: AHub) -> Iterator[AHub]:
    """The server while the block runs."""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
