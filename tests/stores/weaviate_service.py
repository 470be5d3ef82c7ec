"""As much of Weaviate as the example uses: REST for collections, gRPC for objects and searches, on real sockets."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
from weaviate.proto.v1 import base_pb2, batch_pb2, properties_pb2, search_get_pb2, weaviate_pb2_grpc

from tests.stores.service import Asked, Service

VERSION = "1.34.0"


class WeaviateService(Service, weaviate_pb2_grpc.WeaviateServicer):
    """Runs both until its `with` ends; what gRPC was asked lies in `batches` and `searches`."""

    def __init__(self) -> None:
        Service.__init__(self, self.answer)
        self.collections: dict[str, Any] = {}
        self.objects: dict[tuple[str, str], batch_pb2.BatchObject] = {}
        self.batches: list[batch_pb2.BatchObjectsRequest] = []
        self.searches: list[search_get_pb2.SearchRequest] = []
        self.refused: dict[int, str] = {}
        """What the next batch says of some of its objects, by their places."""
        self.grpc = grpc.server(ThreadPoolExecutor(2))
        weaviate_pb2_grpc.add_WeaviateServicer_to_server(self, self.grpc)
        self.grpc_port = self.grpc.add_insecure_port("127.0.0.1:0")

    def __enter__(self) -> WeaviateService:
        super().__enter__()
        self.grpc.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.grpc.stop(None).wait()
        super().__exit__()

    def answer(self, asked: Asked) -> tuple[int, Any]:
        if asked.path == "/v1/meta":
            return 200, {"version": VERSION}
        if asked.method == "POST":
            self.collections[asked.body["class"]] = asked.body
        name = asked.path.removeprefix("/v1/schema/") if asked.method == "GET" else asked.body["class"]
        return (200, self.collections[name]) if name in self.collections else (404, None)

    def BatchObjects(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.batches.append(request)
        refused, self.refused = self.refused, {}
        kept = [thing for place, thing in enumerate(request.objects) if place not in refused]
        self.objects |= {(thing.collection, thing.uuid): thing for thing in kept}
        errors = [batch_pb2.BatchObjectsReply.BatchError(index=place, error=why) for place, why in refused.items()]
        return batch_pb2.BatchObjectsReply(took=0.1, errors=errors)

    def Search(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.searches.append(request)
        (using,) = request.near_vector.targets.target_vectors
        (vectors,) = request.near_vector.vectors
        query, found = np.frombuffer(vectors.vector_bytes, np.float32), []
        for (collection, _), thing in self.objects.items():
            if collection == request.collection and self.matches(thing, request):
                row = next(np.frombuffer(v.vector_bytes, np.float32) for v in thing.vectors if v.name == using)
                found.append((float(1 - row @ query / np.linalg.norm(row) / np.linalg.norm(query)), thing))
        nearest = sorted(found, key=lambda pair: pair[0])[: request.limit]
        return search_get_pb2.SearchReply(took=0.1, results=[self.result(*pair) for pair in nearest])

    def matches(self, thing: Any, request: Any) -> bool:
        if not request.HasField("filters"):
            return True
        assert request.filters.operator == base_pb2.Filters.OPERATOR_EQUAL
        return thing.properties.non_ref_properties[request.filters.target.property] == request.filters.value_text

    def result(self, distance: float, thing: Any) -> Any:
        texts = thing.properties.non_ref_properties
        fields = {name: properties_pb2.Value(text_value=texts[name]) for name in texts}
        return search_get_pb2.SearchResult(
            metadata=search_get_pb2.MetadataResult(id=thing.uuid, distance=distance, distance_present=True),
            properties=search_get_pb2.PropertiesResult(
                target_collection=thing.collection, non_ref_props=properties_pb2.Properties(fields=fields)
            ),
        )
