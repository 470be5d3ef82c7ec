"""A span of OpenTelemetry for what LangChain asks of the embeddings, and one of the caller's around it."""

from tests.telemetry.spans import record


def test_what_a_vector_store_asks_for_is_a_span_within_the_caller_s(make):
    from langchain_core.vectorstores import InMemoryVectorStore

    with record() as spans, spans.tracer.start_as_current_span("the caller's"):
        store = InMemoryVectorStore(make(dimensions=128))
        store.add_texts(["a canary", "a blue coat"])
        store.similarity_search("canary")
    documents, query = spans.ours
    caller = spans.exporter.get_finished_spans()[-1]
    assert caller.name == "the caller's"
    assert {span.parent.span_id for span in spans.ours} == {caller.context.span_id}
    assert [span.attributes["jinaclip.task"] for span in (documents, query)] == ["document", "query"]
    assert [span.attributes["jinaclip.items"] for span in (documents, query)] == [2, 1]
    assert all(span.attributes["gen_ai.embeddings.dimension.count"] == 128 for span in spans.ours)
    assert all("canary" not in span.to_json() for span in spans.ours)


async def test_async_too(make):
    with record() as spans, spans.tracer.start_as_current_span("the caller's"):
        await make().aembed_documents(["a"])
        await make().aembed_query("b")
    caller = spans.exporter.get_finished_spans()[-1]
    assert [span.parent.span_id for span in spans.ours] == [caller.context.span_id] * 2
