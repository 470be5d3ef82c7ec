"""Whatever a server sends is an answer that holds, or is refused in one of the two ways there are."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jinaclip.backends.api.wires import WIRES, base
from tests.api.test_wire import JSON, check_refusal, check_shape, fits

SOME = settings(max_examples=25, deadline=None)
ITEM = st.fixed_dictionaries({}, optional={"embedding": JSON, "index": JSON | st.integers(0, 3), "usage": JSON})
ANSWER = st.fixed_dictionaries({"data": st.lists(ITEM, max_size=3)}, optional={"usage": JSON, "space": JSON})
ERROR = st.fixed_dictionaries({}, optional=dict.fromkeys(("message", "type", "param", "code"), JSON))
REFUSAL = st.fixed_dictionaries(
    {}, optional={"error": ERROR, "OriginalStatusCode": JSON | st.integers(), "OriginalMessage": JSON, "message": JSON}
)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(WIRES))
@SOME
@given(value=ANSWER | JSON, items=st.integers(1, 3), width=st.integers(1, 3))
def test_any_json_is_an_answer_that_holds_or_none(name: str, value: Any, items: int, width: int) -> None:
    raw = orjson.dumps(value) if fits(value) else b"?"
    try:
        answer = WIRES[name].read_answer(raw, items, width)
    except (base.Malformed, base.WrongDimensions):
        return
    check_shape(answer, items, width)
    assert answer.space is None or isinstance(answer.space, str)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(WIRES))
@SOME
@given(value=REFUSAL | JSON, status=st.sampled_from([400, 401, 403, 424, 429, 500]))
def test_any_json_is_some_refusal(name: str, value: Any, status: int) -> None:
    raw = orjson.dumps(value) if fits(value) else b"?"
    refusal = WIRES[name].read_refusal(raw, status, {"x-amzn-errortype": "ModelError", "x-request-id": "r"})
    check_refusal(refusal)
    assert type(refusal.status) is int
