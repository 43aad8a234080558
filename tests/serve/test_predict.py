"""Answers of a server equal those of the predictor, for all forms of requests."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from sensorium.predictor import Predictor

Rows = list[dict[str, Any]]


def as_json(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {"base64": base64.b64encode(cell).decode()} if isinstance(cell, bytes) else cell for name, cell in row.items()
    }


def as_parts(row: dict[str, Any]) -> dict[str, Any]:
    return {name: (f"{name}.bin", cell) if isinstance(cell, bytes) else (None, cell) for name, cell in row.items()}


def test_predictions_are_bit_identical_to_the_predictor(client: Any, predictor: Predictor, cells: Rows) -> None:
    for row in cells[:6]:
        (want,) = predictor.predict([row], batch_invariant=True)
        for answer in (
            client.post("/predict", json={"row": as_json(row)}),
            client.post("/models/house/predict", json={"row": as_json(row)}),
            client.post("/predict?model=house", files=as_parts(row)),
        ):
            assert answer.status_code == 200, answer.text
            assert answer.json() == want.to_json()  # floats too: JSON keeps every bit of them


def test_several_rows(client: Any, predictor: Predictor, cells: Rows) -> None:
    want = [prediction.to_json() for prediction in predictor.predict(cells, batch_invariant=True)]
    answer = client.post("/predict", json={"rows": [as_json(row) for row in cells]})
    assert answer.json()["predictions"] == want
    files: dict[str, Any] = {}
    rows = []
    for i, row in enumerate(cells[:5]):
        files |= {f"{name}{i}": cell for name, cell in row.items() if isinstance(cell, bytes)}
        rows.append({n: {"part": f"{n}{i}"} if isinstance(cell, bytes) else cell for n, cell in row.items()})
    answer = client.post("/predict", files=files, data={"@rows": json.dumps(rows)})
    assert answer.json()["predictions"] == [
        prediction.to_json() for prediction in predictor.predict(cells[:5], batch_invariant=True)
    ]
    assert client.post("/predict", json={"rows": []}).json() == {"predictions": []}
    assert client.post("/embed", json={"rows": []}).json() == {"vectors": []}
    assert client.post("/explain", json={"rows": []}).json()["targets"] == {"event": []}


def test_any_cell_may_be_missing(client: Any, predictor: Predictor, cells: Rows) -> None:
    (want,) = predictor.predict([{}], batch_invariant=True)
    for answer in (
        client.post("/predict", json={"row": {}}),
        client.post("/predict", json={"row": dict.fromkeys(cells[0])}),
        client.post("/predict", json={"row": {"event": "kettle", "cost": 3}}),  # the table's other columns
        # What a browser sends for an empty form.
        client.post("/predict", files={"photo": ("", b""), "note": (None, "")}),
    ):
        assert answer.json() == want.to_json()
        assert set(answer.json()["missing"]) == set(predictor.model.streams)


def test_cells_come_in_several_forms(client: Any, predictor: Predictor, cells: Rows) -> None:
    row = next(row for row in cells if "photo" in row)
    address = "data:image/png;base64," + base64.b64encode(row["photo"]).decode()
    assert (
        client.post("/predict", json={"row": {"photo": address}}).json()
        == predictor.predict([{"photo": row["photo"]}], batch_invariant=True)[0].to_json()
    )
    steps = [[float(i % 3), 0.5, -1.0] for i in range(40)]
    (want,) = predictor.predict([{"sensor": steps}], batch_invariant=True)
    assert client.post("/predict", json={"row": {"sensor": steps}}).json() == want.to_json()
    assert client.post("/predict", files={"sensor": (None, json.dumps(steps))}).json() == want.to_json()
    # Text may come as a file.
    (want,) = predictor.predict([{"note": "水壶响了"}], batch_invariant=True)
    assert client.post("/predict", files={"note": ("note.txt", "水壶响了".encode())}).json() == want.to_json()


def test_attribution_maps_on_request(client: Any, cells: Rows) -> None:
    answer = client.post("/explain?where=yes", json={"rows": [as_json(cells[0])]}).json()
    assert {one["stream"] for one in answer["maps"]} == set(answer["streams"])
    for one in answer["maps"]:
        assert "html" not in one
        assert one["note"] or one["values"], "a map, or why there is none"
    (photo,) = (one for one in answer["maps"] if one["kind"] == "image")
    assert photo["note"] or photo["pictures"][0].startswith("data:image/png;base64,")
    assert client.post("/explain", json={"rows": [as_json(cells[0])]}).json()["maps"] == []
    assert client.post("/explain?where=yes", json={"rows": [as_json(row) for row in cells[:5]]}).status_code == 422
    assert client.post("/explain?where=perhaps", json={"row": as_json(cells[0])}).status_code == 422


def test_explanations_and_vectors(client: Any, predictor: Predictor, cells: Rows, trained: Any) -> None:
    from sensorium.evaluation.stream_attribution import explain

    answer = client.post("/explain", json={"rows": [as_json(row) for row in cells[:3]]}).json()
    samples = [predictor.schema.encode(row, media=predictor.media) for row in cells[:3]]
    assert answer == json.loads(json.dumps(explain(predictor.model, [predictor.batch(samples)]).to_json()))
    for one in answer["targets"]["event"]:
        assert sum(one["shares"].values()) == pytest.approx(one["value"] - one["nothing"], abs=1e-6)
    assert client.post("/embed", json={"row": as_json(cells[0])}).json() == predictor.embed(cells[:1])[0].tolist()
    several = client.post("/embed?stream=note", json={"rows": [as_json(row) for row in cells[:3]]}).json()
    assert several["vectors"] == predictor.embed(cells[:3], stream="note").tolist()
    wrong = client.post("/embed?stream=nose", json={"row": {}})
    assert (wrong.status_code, wrong.json()["error"]["problem"]) == (422, "no stream named 'nose'; did you mean note?")


def test_schema(client: Any, predictor: Predictor) -> None:
    form = client.get("/schema").json()
    assert [column["name"] for column in form["columns"]] == [column.name for column in predictor.schema.inputs]
    columns = {column["name"]: column for column in form["columns"]}
    assert columns["photo"]["widget"] == "file:image/*"
    assert columns["room"]["choices"] == ["bath", "hall", "kitchen", "living room"]
    assert form["targets"][0]["classes"] == predictor.model.tasks["event"].plain.classes
    assert client.get("/models/house/schema").json() == form
    assert client.get("/healthz").json()["models"] == ["house"]


def test_several_models(make_client: Any, predictor: Predictor) -> None:
    client = make_client({"one": predictor, "two": predictor})
    assert client.get("/schema").json()["model"] == "one"
    assert client.get("/schema?model=two").json()["model"] == "two"
    assert client.post("/models/two/predict", json={"row": {}}).status_code == 200
    wrong = client.post("/predict?model=tow", json={"row": {}})
    assert wrong.status_code == 404
    assert "did you mean two" in wrong.json()["error"]["problem"]


def test_page_loads_nothing_from_other_sites(client: Any) -> None:
    document = client.get("/openapi.json").json()
    row = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]["oneOf"][0]
    assert set(row["properties"]["row"]["properties"]) == {c["name"] for c in client.get("/schema").json()["columns"]}
    assert client.get("/docs").status_code == 404
    for path in ("/", "/page.js", "/page.css", "/recording.js", "/chat.html", "/chat.js"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "http://" not in answer.text.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in answer.text
