"""Whatever the OpenAPI document allows, and whatever it does not: an answer or a clear no, never an error of its own."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

MANY = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
NO = {400, 404, 413, 415, 422}


def of(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a JSON Schema of the document allows."""
    if "oneOf" in schema or "anyOf" in schema:
        return st.one_of([of(one) for one in schema.get("oneOf") or schema["anyOf"]])
    kinds = schema.get("type", [])
    if isinstance(kinds, list):
        return st.one_of([of({**schema, "type": kind}) for kind in kinds]) if kinds else ANYTHING
    if kinds == "object":
        parts = {name: of(one) for name, one in schema.get("properties", {}).items()}
        required = {name: parts.pop(name) for name in schema.get("required", []) if name in parts}
        return st.fixed_dictionaries(required, optional=parts)
    if kinds == "array":
        return st.lists(of(schema.get("items", {})), max_size=min(4, schema.get("maxItems", 4)))
    if kinds == "string":
        return (
            st.binary(max_size=60).map(lambda data: base64.b64encode(data).decode())
            if "contentEncoding" in schema
            else TEXT
        )
    return {
        "null": st.none(),
        "number": st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False)),
        "integer": st.integers(),
    }[kinds]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@pytest.fixture(scope="module")
def document(client: Any) -> dict[str, Any]:
    results: dict[str, Any] = client.get("/openapi.json").json()
    return results


def checked(answer: Any, document: dict[str, Any], path: str) -> None:
    operation = document["paths"][path]["post"]
    assert str(answer.status_code) in operation["responses"], answer.text
    if answer.status_code == 200:
        json.loads(answer.text, parse_constant=lambda name: pytest.fail(f"{name} in an answer"))
    else:
        assert answer.status_code in NO, answer.text
        assert answer.json()["error"]["problem"]


@MANY
@given(data=st.data(), path=st.sampled_from(["/predict", "/explain", "/embed"]), bad=st.sampled_from(["refuse", "missing"]))
def test_requests_allowed_by_the_openapi_document(
    client: Any, document: dict[str, Any], data: st.DataObject, path: str, bad: str
) -> None:
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    body = data.draw(of(schema))
    answer = client.post(f"{path}?bad={bad}", json=body)
    checked(answer, document, path)
    if bad == "missing":
        assert answer.status_code == 200 or "cells" not in answer.json()["error"]


@MANY
@given(data=st.data())
def test_other_requests(client: Any, document: dict[str, Any], data: st.DataObject) -> None:
    columns = [column["name"] for column in client.get("/schema").json()["columns"]]
    row = st.dictionaries(st.sampled_from(columns) | st.text(max_size=5), ANYTHING, max_size=4)
    body = data.draw(
        st.one_of(ANYTHING, st.fixed_dictionaries({"row": row}), st.fixed_dictionaries({"rows": st.lists(row)}))
    )
    content = json.dumps(body).encode() if data.draw(st.booleans()) else data.draw(st.binary(max_size=200))
    answer = client.post("/predict", content=content, headers={"content-type": "application/json"})
    checked(answer, document, "/predict")


@MANY
@given(data=st.data())
def test_multipart_requests(client: Any, document: dict[str, Any], data: st.DataObject) -> None:
    columns = [column["name"] for column in client.get("/schema").json()["columns"]]
    files = data.draw(
        st.lists(
            st.tuples(
                st.sampled_from([*columns, "@rows", "other"]),
                st.tuples(st.one_of(st.none(), TEXT), st.binary(max_size=50)),
            ),
            max_size=5,
        )
    )
    if files:
        checked(client.post("/predict", files=files), document, "/predict")
    raw = data.draw(st.binary(max_size=200))
    answer = client.post("/predict", content=raw, headers={"content-type": "multipart/form-data; boundary=b"})
    checked(answer, document, "/predict")


@MANY
@given(
    target=st.text(st.characters(exclude_categories=["Cs"]), max_size=20), method=st.sampled_from(["GET", "POST", "PUT"])
)
def test_paths(client: Any, target: str, method: str) -> None:
    from urllib.parse import quote

    for path in (f"/models/{quote(target)}/predict", f"/{quote(target)}", f"/predict?model={quote(target)}"):
        answer = client.request(method, path, follow_redirects=False)
        assert answer.status_code in {200, 307, 405, *NO}, (path, answer.text)
