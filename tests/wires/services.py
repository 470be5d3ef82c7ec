"""Small servers with the faces of others, in front of `jinaclip.testing`, which has the vectors."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import httpx
import numpy as np
import orjson
import pybase64

KEY = "jina_test_wires"
REGION, ENDPOINT = "eu-west-1", "my-clip"
ACCESS_KEY, SECRET_KEY = "AKIDEXAMPLE", "a/secret+key/of+aws"


class Asked(NamedTuple):
    """A request as it came."""

    path: str
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return orjson.loads(self.raw)


class Said(NamedTuple):
    """An answer as it goes."""

    status: int
    body: Any
    headers: Mapping[str, str] = {}


Answer = Callable[[Asked], Said]


class Service:
    """A server on this machine, with `answer` for every request that no one of `replies` is for."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.replies: deque[Answer] = deque()
        self._lock = threading.Lock()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                said = service.say(Asked(self.path, {k.lower(): v for k, v in self.headers.items()}, raw))
                data = said.body if isinstance(said.body, bytes) else orjson.dumps(said.body)
                self.send_response(said.status)
                for name, value in {"Content-Length": str(len(data)), **said.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                """Tests tell nobody."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def say(self, asked: Asked) -> Said:
        with self._lock:
            self.asked.append(asked)
            answer = self.replies.popleft() if self.replies else self.answer
        return answer(asked)

    def reset(self) -> Service:
        self.asked.clear()
        self.replies.clear()
        return self

    def __enter__(self) -> Service:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Upstream:
    """The service that has the vectors, asked on Jina's wire."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=30)

    def ask(self, inputs: list[Any], **fields: Any) -> Said:
        body = {"model": "jina-clip-v2", "embedding_type": "base64", "input": inputs, **fields}
        response = self._client.post("/v1/embeddings", content=orjson.dumps(body))
        return Said(response.status_code, orjson.loads(response.content))

    def close(self) -> None:
        self._client.close()


def floats(letters: str) -> list[float]:
    return np.frombuffer(pybase64.b64decode(letters), "<f4").tolist()


def jina_face(upstream: Upstream, space: Callable[[], str | None]) -> Answer:
    """Jina's wire, as `jinaclip serve` speaks it: answers name their space."""

    def answer(asked: Asked) -> Said:
        fields = asked.body
        said = upstream.ask(fields.pop("input"), **fields)
        return Said(said.status, {**said.body, "space": space()} if space() else said.body)

    return answer


def openai_face(upstream: Upstream) -> Answer:
    """OpenAI's, keyless: it knows no task, refuses fields that it does not know, and always answers whole vectors."""

    def answer(asked: Asked) -> Said:
        fields = asked.body
        if unknown := fields.keys() - {"model", "input", "encoding_format", "user"}:
            return refusal(400, f"Unrecognized request argument: {min(unknown)}", "invalid_request_error", param="")
        said = upstream.ask([{"text": one} if isinstance(one, str) else one for one in fields["input"]])
        if said.status != 200:
            return refusal(said.status, str(said.body.get("detail")), "invalid_request_error")
        wants_floats = fields.get("encoding_format") != "base64"
        for item in said.body["data"] if wants_floats else []:
            item["embedding"] = floats(item["embedding"])
        return said

    return answer


def refusal(status: int, message: str, kind: str, code: str | None = None, param: str | None = None, **headers) -> Said:
    """In OpenAI's shape."""
    error = {"message": message, "type": kind, "param": param, "code": code}
    return Said(status, {"error": error}, headers)


def sagemaker_face(upstream: Upstream) -> Answer:
    """SageMaker's, before a container of Jina's: signed requests, raw vectors without indices, a bill for each."""

    def answer(asked: Asked) -> Said:
        if (problem := find_bad_signature(asked)) is not None:
            return problem
        assert asked.path == f"/endpoints/{ENDPOINT}/invocations"
        fields = asked.body
        inputs = [
            {"text": one["text"]} if "text" in one else {"image": next(iter(one.values()))} for one in fields["data"]
        ]
        said = upstream.ask(inputs, normalized=False, **fields.get("parameters", {}))
        if said.status != 200:
            original = orjson.dumps(said.body).decode()
            wrapped = {"OriginalStatusCode": said.status, "OriginalMessage": original, "Message": "the model failed"}
            return Said(424, wrapped, {"x-amzn-errortype": "ModelError"})
        return Said(200, {"data": vendor_items(said.body), "parameters": fields.get("parameters", {})})

    return answer


def vendor_items(body: Any) -> list[dict[str, Any]]:
    share = body["usage"]["total_tokens"] // len(body["data"]) + 1
    ordered = sorted(body["data"], key=lambda item: item["index"])
    return [
        {"id": f"{i:032x}", "embedding": floats(item["embedding"]), "usage": {"id": f"{i:032x}", "total_tokens": share}}
        for i, item in enumerate(ordered)
    ]


def find_bad_signature(asked: Asked) -> Said | None:
    """A refusal if botocore, which signs again what came, comes to another signature."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    given = asked.headers.get("authorization", "")
    if not given.startswith("AWS4-HMAC-SHA256 "):
        return Said(
            403,
            {"message": "Missing Authentication Token"},
            {"x-amzn-errortype": "MissingAuthenticationTokenException"},
        )
    parts = dict(part.split("=", 1) for part in given.removeprefix("AWS4-HMAC-SHA256 ").split(", "))
    access_key = parts["Credential"].partition("/")[0]
    signed = {name: asked.headers[name] for name in parts["SignedHeaders"].split(";")}
    assert {"host", "x-amz-date", "content-type"} <= signed.keys()
    request = AWSRequest("POST", f"http://{asked.headers['host']}{asked.path}", headers=signed, data=asked.raw)
    request.context["timestamp"] = signed["x-amz-date"]
    auth = SigV4Auth(Credentials(access_key, SECRET_KEY, signed.get("x-amz-security-token")), "sagemaker", REGION)
    canonical = auth.canonical_request(request)
    if auth.signature(auth.string_to_sign(request, canonical), request) == parts["Signature"]:
        return None
    told = f"The request signature does not match. The Canonical String should have been '{canonical}'"
    return Said(403, {"message": told}, {"x-amzn-errortype": "InvalidSignatureException"})
