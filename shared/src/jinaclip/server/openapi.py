"""What the server takes and gives, as an OpenAPI document."""

from __future__ import annotations

from typing import Any

import jinaclip
from jinaclip.backends.api.wires.jina import ENCODINGS
from jinaclip.server.requests import Defaults

JSON = "application/json"
REFUSALS = {
    "400": "no JSON, another model, or a text that is too long",
    "401": "no key, or one that is not known",
    "403": "the balance behind this server is used up, or a page of another site asks",
    "408": "the body did not come in time",
    "413": "the body, an image or the number of inputs is too large",
    "415": "the body is compressed",
    "422": "a field or an input cannot be used; `errors` says which",
    "429": "too much at once; see Retry-After",
    "500": "the model failed",
    "503": "the server is loading, stopping, or its model cannot be reached; see Retry-After",
    "504": "not embedded in time",
}


def make_document(defaults: Defaults) -> dict[str, Any]:
    """The document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "jinaclip serve",
            "version": jinaclip.__version__,
            "description": "Texts and images as vectors in one space. Speaks Jina's embeddings API and OpenAI's.",
        },
        "paths": {
            "/v1/embeddings": {"post": embeddings_operation()},
            "/v1/models": {"get": operation("models", "The model, in a list", schema_of("Models"))},
            "/v1/models/{name}": {"get": model_operation()},
            "/live": {"get": operation("live", "Whether the process answers", schema_of("Status"))},
            "/ready": {"get": operation("ready", "Whether it embeds now", schema_of("Status"), "503")},
            "/metrics": {"get": metrics_operation()},
        },
        "components": {
            "schemas": schemas(defaults),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def schema_of(name: str) -> dict[str, Any]:
    """A schema of this document."""
    return {"$ref": f"#/components/schemas/{name}"}


def content(schema: dict[str, Any], kind: str = JSON) -> dict[str, Any]:
    """What a body holds."""
    return {kind: {"schema": schema}}


def operation(name: str, about: str, answer: dict[str, Any], *refusals: str) -> dict[str, Any]:
    """A path that answers JSON, and the statuses with which it does not."""
    responses = {"200": {"description": about, "content": content(answer)}}
    for status in refusals:
        responses[status] = {"description": REFUSALS[status], "content": content(schema_of("Refusal"))}
    return {"operationId": name, "summary": about, "responses": responses}


def embeddings_operation() -> dict[str, Any]:
    """`POST /v1/embeddings`."""
    return {
        **operation("embeddings", "A vector for each input, in order", schema_of("Embeddings"), *REFUSALS),
        "requestBody": {"required": True, "content": content(schema_of("EmbeddingsRequest"))},
        "security": [{"key": []}, {}],
    }


def model_operation() -> dict[str, Any]:
    """`GET /v1/models/{name}`."""
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    found = operation("model", "The model", schema_of("Model"))
    found["responses"]["404"] = {"description": "another model", "content": content(schema_of("Refusal"))}
    return {**found, "parameters": [name]}


def metrics_operation() -> dict[str, Any]:
    """`GET /metrics`."""
    found = operation("metrics", "Counters, as Prometheus reads them", {}, "401")
    found["responses"]["200"]["content"] = content({"type": "string"}, "text/plain")
    return {**found, "security": [{"key": []}, {}]}


def schemas(defaults: Defaults) -> dict[str, Any]:
    """What is sent, by name."""
    return {
        "EmbeddingsRequest": request_schema(defaults),
        "Input": input_schema(),
        "Embeddings": embeddings_schema(defaults),
        "Model": model_schema(),
        "Models": record(object={"const": "list"}, data={"type": "array", "items": schema_of("Model")}),
        "Status": record(status={"type": "string"}),
        "Refusal": refusal_schema(),
    }


def record(*optional: str, **properties: Any) -> dict[str, Any]:
    """An object with these properties, of which some may be missing."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def request_schema(defaults: Defaults) -> dict[str, Any]:
    """The body of `POST /v1/embeddings`."""
    spec, own = defaults.spec, {"description": "that of an input", **schema_of("Input")}
    task = {"enum": [spec.query_task, None], "description": "for texts that are queries"}
    several = {"type": "array", "items": schema_of("Input"), "minItems": 1, "maxItems": defaults.max_inputs}
    return record(
        "task",
        "dimensions",
        "normalized",
        "truncate",
        "embedding_type",
        "encoding_format",
        "user",
        model={"enum": list(defaults.names)},
        input={"anyOf": [own, several]},
        task=task if spec.query_task else {"description": "not looked at by this model"},
        dimensions={
            "type": "integer",
            "minimum": spec.min_dimensions,
            "maximum": spec.dimensions,
            "default": defaults.dimensions,
        },
        normalized={"type": "boolean", "default": defaults.normalized, "description": "vectors of length 1"},
        truncate={"type": "boolean", "default": defaults.truncate, "description": "cut texts that are too long"},
        embedding_type={"enum": list(ENCODINGS), "default": "float"},
        encoding_format={"enum": list(ENCODINGS), "description": "OpenAI's name of embedding_type"},
        user={"type": "string", "description": "not looked at"},
    )


def input_schema() -> dict[str, Any]:
    """One input."""
    base64 = "base64, a data: URI, or an https URL where the server fetches"
    part = record(type={"const": "image_url"}, image_url=record(url={"type": "string", "description": base64}))
    return {
        "anyOf": [
            {"type": "string"},
            record(text={"type": "string"}),
            record(image={"type": "string", "description": base64}),
            part,
        ]
    }


def embeddings_schema(defaults: Defaults) -> dict[str, Any]:
    """The answer of `POST /v1/embeddings`."""
    numbers = {"type": "array", "items": {"type": "number"}}
    letters = {"type": "string", "description": "base64 of little-endian float32"}
    row = record(
        object={"const": "embedding"},
        index={"type": "integer", "minimum": 0, "maximum": defaults.max_inputs - 1},
        embedding={"anyOf": [numbers, letters]},
    )
    tokens = {"type": "integer", "minimum": 0}
    return record(
        model={"type": "string"},
        object={"const": "list"},
        usage=record(total_tokens=tokens, prompt_tokens=tokens),
        data={"type": "array", "items": row},
        space={"type": "string", "description": "name of the vector space; vectors of one space can be compared"},
    )


def model_schema() -> dict[str, Any]:
    """A model of `GET /v1/models`."""
    size = {"type": "integer", "minimum": 1}
    return record(
        id={"type": "string"},
        object={"const": "model"},
        created={"type": "integer"},
        owned_by={"type": "string"},
        dimensions=size,
        matryoshka={"type": "array", "items": size, "description": "widths that the model was trained for"},
        max_tokens=size,
        image_size=size,
        space={"type": "string"},
    )


def refusal_schema() -> dict[str, Any]:
    """Why there is no answer, in Jina's words and in OpenAI's."""
    word = {"type": "string"}
    return record(
        "errors",
        detail=word,
        code=word,
        request_id=word,
        errors={"type": "array", "items": record(field=word, message=word, type=word)},
        error=record(message=word, type=word, param={"type": ["string", "null"]}, code=word),
    )
