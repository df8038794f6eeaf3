"""Caches of the Hugging Face hub as tests lay them out, and a small server for downloads by huggingface_hub."""

import hashlib
import json
import os
import shutil
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def add_to_cache(cache, model_id, directory, commit=COMMIT, revision="main"):
    """Add the files of a directory to a cache of the hub: blobs, a snapshot of links to them, and a ref."""
    entry = Path(cache) / f"models--{model_id.replace('/', '--')}"
    snapshot = entry / "snapshots" / commit
    for file in sorted(path for path in Path(directory).rglob("*") if path.is_file()):
        blob = entry / "blobs" / digest(file)
        link = snapshot / file.relative_to(directory)
        for path in (blob, link):
            path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, blob)
        link.symlink_to(os.path.relpath(blob, link.parent))
    (entry / "refs").mkdir(exist_ok=True)
    (entry / "refs" / revision).write_text(commit)
    return snapshot


def digest(file):
    """The name of a file's blob."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers for the models of `server.models`, {id: directory}, and the errors of `server.errors`, {id: code}."""

    def log_message(self, *arguments):
        """Nothing is printed."""

    def do_HEAD(self):
        """The headers of a file."""
        self.answer()

    def do_GET(self):
        """A file, or the description of a model."""
        self.answer()

    def answer(self):
        """The answer to both kinds of request."""
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        parts = parts[2:] if parts[:2] == ["api", "models"] else parts
        model_id, rest = "/".join(parts[:2]), parts[2:]
        time.sleep(self.server.wait)
        self.server.requests.append(f"{self.command} {'/'.join(parts)}")
        status, code = self.server.errors.get(model_id, (404, "RepoNotFound"))
        if model_id not in self.server.models:
            return self.reply(status, b"", {"X-Error-Code": code, "X-Error-Message": "told by the test"})
        directory = self.server.models[model_id]
        names = [path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()]
        kind, *rest = rest or ["revision", "main"]
        if kind in ("revision", "tree") and rest[0] not in ("main", COMMIT):
            return self.reply(404, b"", {"X-Error-Code": "RevisionNotFound"})
        if kind == "revision":
            files = [{"rfilename": name} for name in names]
            return self.reply_json({"id": model_id, "sha": COMMIT, "siblings": files})
        if kind == "tree":
            sizes = {name: (directory / name).stat().st_size for name in names}
            files = [{"type": "file", "path": name, "size": size, "oid": "0" * 40} for name, size in sizes.items()]
            return self.reply_json(files)
        file = directory / "/".join(rest[1:])
        if not file.is_file():
            return self.reply(404, b"", {"X-Error-Code": "EntryNotFound"})
        return self.reply(200, file.read_bytes(), {"ETag": f'"{digest(file)}"', "X-Repo-Commit": COMMIT})

    def reply_json(self, value):
        """Answer with a JSON value."""
        self.reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def reply(self, status, content, headers):
        """Answer with a status, headers and, to GET, a content."""
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


class Server(ThreadingHTTPServer):
    """A server that prints nothing if the other side has gone."""

    def handle_error(self, request, client_address):
        """Nothing is printed."""


@contextmanager
def hub_server(models, errors=()):
    """Context manager: a server with its address as `url`, and the requests that it got as `requests`.

    models, errors: as of Handler. It answers after `wait` seconds.
    """
    server = Server(("127.0.0.1", 0), Handler)
    server.models = {name: Path(directory) for name, directory in models.items()}
    server.errors, server.requests, server.wait = dict(errors), [], 0
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
