"""Amazon SageMaker's wire: Jina's containers behind `InvokeEndpoint`, signed by botocore. Client only.

The containers of Jina's marketplace packages take `{"data": [...], "parameters": {...}}` and answer in the order of the
request, without indices, each item with a bill of its own; newer ones answer in Jina's envelope. Both are read.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import ModuleType
from typing import Any

import orjson
import pybase64

from jinaclip.backends.api.wires import jina
from jinaclip.backends.api.wires.base import (
    NO_HEADERS,
    Answer,
    Reason,
    Refusal,
    Signature,
    Traits,
    WrongIndices,
    check_rows,
    count_tokens,
    open_answer,
    open_refusal,
    order_by_index,
    read_cell,
    read_rows,
    read_text,
)
from jinaclip.config import EmbedderConfig
from jinaclip.errors import AuthenticationError, ConfigError
from jinaclip.requirements import missing_dependency
from jinaclip.secret import Secret
from jinaclip.specs import ModelSpec

SERVICE = "sagemaker"
"""In what is signed; the API itself is "sagemaker-runtime"."""
traits = Traits(
    provider="aws.sagemaker",
    says_task=True,
    says_dimensions=True,
    says_normalized=True,
    says_truncate=False,
    most_bytes=4_800_000,  # of 5 MB, with room for what is around the items
    most_seconds=60.0,
    key_hint="check the AWS credentials, and that they allow sagemaker:InvokeEndpoint",
)
CONTAINER_FAILED = 424
"""The status of SageMaker where the container refused or failed; the body says with which of its own."""
REASONS: Mapping[str, tuple[int, Reason | None]] = {
    "ThrottlingException": (429, Reason.REQUESTS),
    "ModelNotReadyException": (503, None),
    "AccessDeniedException": (403, Reason.CREDENTIALS),
    "ExpiredTokenException": (403, Reason.CREDENTIALS),
    "InvalidSignatureException": (403, Reason.CREDENTIALS),
    "SignatureDoesNotMatch": (403, Reason.CREDENTIALS),
    "IncompleteSignature": (403, Reason.CREDENTIALS),
    "MissingAuthenticationTokenException": (403, Reason.CREDENTIALS),
    "UnrecognizedClientException": (403, Reason.CREDENTIALS),
}
"""What AWS calls its refusals, and the statuses they amount to: throttling comes as 400."""
NO_ENDPOINT = re.compile(r"Endpoint .* not found", re.IGNORECASE)


def split(base_url: str) -> tuple[str, str, str]:
    """Region, endpoint, and the field of images in `sagemaker://region/endpoint?images=field`."""
    place, _, query = base_url.removeprefix("sagemaker://").partition("?")
    region, _, endpoint = place.partition("/")
    return region, endpoint, query.removeprefix("images=") or "bytes"


def load_botocore() -> ModuleType:
    """botocore, imported on first use.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import botocore.auth
        import botocore.awsrequest
        import botocore.config
        import botocore.loaders
        import botocore.session
    except ModuleNotFoundError as missing:
        raise missing_dependency("wire='sagemaker'", missing.name, "sagemaker") from None
    found: ModuleType = botocore
    return found


@lru_cache(maxsize=1)
def open_data(create: Callable[[], Any]) -> Any:
    """Botocore's tables of services and regions, read once: that takes 0.1 s."""
    return create()


def url(base_url: str) -> str:
    """Where requests go: botocore knows the partitions of AWS, and AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME.

    Raises:
        MissingDependencyError: botocore is not installed.
        ConfigError: botocore finds no address, as a file of its settings is wrong, say.
    """
    botocore = load_botocore()
    region, endpoint, _ = split(base_url)
    unsigned = botocore.config.Config(signature_version=botocore.UNSIGNED)  # nobody looks for credentials yet
    try:
        session = botocore.session.get_session()
        session.register_component("data_loader", open_data(botocore.loaders.create_loader))
        client = session.create_client("sagemaker-runtime", region_name=region, config=unsigned)
    except Exception as error:  # noqa: BLE001  botocore's own, and those of the files that it reads
        raise ConfigError(f"botocore finds no address for {base_url}: {type(error).__name__}") from None
    return f"{client.meta.endpoint_url.rstrip('/')}/endpoints/{endpoint}/invocations"


def authorize(config: EmbedderConfig) -> Secret:
    """An empty Secret: each attempt is signed, and `api_key` is not used."""
    return Secret(None)


def open_signer(base_url: str) -> AwsSigner:
    """What signs each attempt."""
    return AwsSigner(split(base_url)[0])


class AwsSigner:
    """Signs by Signature Version 4, with the credentials that botocore finds as every AWS tool does."""

    def __init__(self, region: str) -> None:
        self._region = region
        self._lock = threading.Lock()
        self._credentials: Any = None

    def sign(self, url: str, headers: Mapping[str, str], body: bytes) -> Signature:
        """The signature of one attempt; credentials that are about to expire are renewed before.

        Raises:
            AuthenticationError: there are no credentials, or they cannot be renewed.
        """
        botocore = load_botocore()
        keys = self._find_credentials(botocore)
        request = botocore.awsrequest.AWSRequest("POST", url, data=body, headers=dict(headers))
        botocore.auth.SigV4Auth(keys, SERVICE, self._region).add_auth(request)
        added = {name: value for name, value in request.headers.items() if name not in headers}
        return Signature(added, [secret for secret in (keys.secret_key, keys.token) if secret])

    def _find_credentials(self, botocore: ModuleType) -> Any:
        """The credentials of now; where they came from is remembered."""
        try:
            with self._lock:
                if self._credentials is None:
                    self._credentials = botocore.session.get_session().get_credentials()
                if self._credentials is not None:
                    return self._credentials.get_frozen_credentials()
        except Exception as error:  # noqa: BLE001  botocore's own, and those of the programs and files that it reads
            raise AuthenticationError(f"the AWS credentials cannot be had: {type(error).__name__}") from None
        raise AuthenticationError(
            "no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile (AWS_PROFILE) or a role"
        )


def settings(config: EmbedderConfig, spec: ModelSpec, *, query: bool) -> dict[str, Any]:
    """All of a request but its inputs, flat: the parameters, and the field of images. The endpoint names the model."""
    body: dict[str, Any] = {"images": split(config.base_url)[2]}
    if config.dimensions is not None and spec.min_dimensions < spec.dimensions:
        body["dimensions"] = config.dimensions
    if query and spec.query_task:
        body["task"] = spec.query_task
    return body


def text_input(text: str) -> dict[str, str]:
    """A text among the inputs of a request."""
    return {"text": text}


def image_input(data: bytes) -> dict[str, str]:
    """An encoded image among the inputs of a request."""
    return {"bytes": pybase64.b64encode(data).decode()}


def url_input(url: str) -> dict[str, str]:
    """An image that the service downloads itself."""
    return {"url": url}


def write_request(body: dict[str, Any], inputs: list[Any]) -> bytes:
    """A request as it is sent. Where images have one field for data and addresses, it is renamed here."""
    parameters = dict(body)
    if (field := parameters.pop("images")) != "bytes":
        inputs = [value if "text" in value else {field: next(iter(value.values()))} for value in inputs]
    return orjson.dumps({"data": inputs} | ({"parameters": parameters} if parameters else {}))


def read_answer(raw: bytes, items: int, dimensions: int) -> Answer:
    """The vectors of an answer, checked; lengths are as the model makes them.

    Raises:
        Malformed: it does not hold. Where there are indices they count; by position is read only what has none at all.
        WrongDimensions: every row has one other width.
    """
    body, data = open_answer(raw)
    if any(isinstance(item, dict) and "index" in item for item in data):
        ordered = order_by_index(data, items)
    else:
        ordered = _check_count(data, items)
    rows = read_rows([read_cell(item.get("embedding")) for item in ordered], dimensions)
    tokens = count_tokens(body.get("usage")) or sum(count_tokens(item.get("usage")) for item in ordered)
    return check_rows(rows, tokens, read_text(body.get("space")) or None)


def _check_count(data: list[Any], items: int) -> list[dict[str, Any]]:
    if len(data) != items or not all(isinstance(item, dict) for item in data):
        raise WrongIndices(f"it does not have {items} items")
    return data


def read_refusal(raw: bytes, status: int = 0, headers: Mapping[str, str] = NO_HEADERS) -> Refusal:
    """What an error body says: SageMaker's, or that of the container which it wraps; neither clean nor cut."""
    body = open_refusal(raw)
    own = body.get("OriginalStatusCode")
    if status == CONTAINER_FAILED and type(own) is int:
        return jina.read_refusal(read_text(body.get("OriginalMessage")).encode(), own)
    code = headers.get("x-amzn-errortype", "").partition(":")[0]
    message = read_text(body.get("message") or body.get("Message"))
    amounts_to, reason = REASONS.get(code, (status, None))
    if NO_ENDPOINT.search(message):
        amounts_to, reason = 404, Reason.MODEL
    return Refusal(code, message, headers.get("x-amzn-requestid"), None, None, reason, amounts_to)
