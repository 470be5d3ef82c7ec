"""As much of Pinecone as the example uses, on a real socket; it searches exactly."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.stores.service import Asked, Service

MISSING = {"error": {"code": "NOT_FOUND", "message": "no such index"}, "status": 404}


class PineconeService(Service):
    """Control plane and data plane under one address."""

    def __init__(self) -> None:
        super().__init__(self.answer)
        self.refusing = False
        self.indexes: dict[str, Any] = {}
        self.records: dict[tuple[str, str], dict[str, Any]] = {}

    def answer(self, asked: Asked) -> tuple[int, Any]:
        if asked.path == "/indexes":
            return 201, self.create(asked.body)
        if asked.path.startswith("/indexes/"):
            index = self.indexes.get(asked.path.removeprefix("/indexes/"))
            return (200, index) if index else (404, MISSING)
        if self.refusing:
            return 400, {"code": 3, "message": "Vector dimension does not match the dimension of the index"}
        if asked.path == "/vectors/upsert":
            self.records |= {(asked.body["namespace"], record["id"]): record for record in asked.body["vectors"]}
            return 200, {"upsertedCount": len(asked.body["vectors"])}
        return 200, {"matches": self.matches(**asked.body), "namespace": asked.body["namespace"]}

    def create(self, body: Any) -> Any:
        """An index that is ready at once."""
        self.indexes[body["name"]] = {
            "deletion_protection": "disabled",
            "tags": None,
            **body,
            "host": self.url,
            "status": {"ready": True, "state": "Ready"},
        }
        return self.indexes[body["name"]]

    def matches(
        self,
        namespace: str,
        vector: list[float],
        topK: int,  # noqa: N803
        filter: dict[str, dict[str, str]] | None = None,  # noqa: A002
        **_: Any,
    ) -> list[Any]:
        wanted = [(key, condition["$eq"]) for key, condition in (filter or {}).items()]
        query, found = np.array(vector, np.float32), []
        for (home, name), record in self.records.items():
            row = np.array(record["values"], np.float32)
            right = all(record["metadata"][key] == value for key, value in wanted)
            if home == namespace and row.size == query.size and right:
                cosine = row @ query / np.linalg.norm(row) / np.linalg.norm(query)
                found.append({"id": name, "score": float(cosine), "values": [], "metadata": record["metadata"]})
        return sorted(found, key=lambda match: -match["score"])[:topK]
