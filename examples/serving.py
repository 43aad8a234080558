"""Requests to a model over HTTP, as a client sends them. (``sensorium serve run`` does the same with a real port.)"""

from pathlib import Path
from tempfile import TemporaryDirectory

from starlette.testclient import TestClient

import sensorium as sm
from sensorium.data.synthetic import make
from sensorium.serve.app import create

with TemporaryDirectory() as folder:
    tables = make(folder, rows=120)
    small = ["model.size=tiny", "training.epochs=3", "model.experts=[linear]"]
    model = sm.fit(tables["train"], target="event", valid=tables["valid"], overrides=small, quiet=True)
    photo = next(Path(folder, "photos").iterdir()).read_bytes()

    with TestClient(create({"house": model.predictor}), base_url="http://localhost") as client:
        columns = client.get("/schema").json()["columns"]
        print("columns:", ", ".join(f"{column['name']} ({column['kind']})" for column in columns))

        # Multipart, as a browser sends it; a column that is not sent is missing.
        answer = client.post("/predict", files={"photo": ("door.png", photo), "note": (None, "The tea is ready.")}).json()
        chances = sorted(answer["targets"]["event"]["probabilities"].items(), key=lambda item: -item[1])
        print("prediction:", ", ".join(f"{name} {chance:.0%}" for name, chance in chances))
        print("missing:", ", ".join(answer["missing"]))

        # Two rows as JSON, and the contribution of each modality to the answers.
        rows = {"rows": [{"note": "The tea is ready.", "temperature": 24.5}, {"temperature": 12.0}]}
        for attribution in client.post("/explain", json=rows).json()["targets"]["event"]:
            shares = ", ".join(f"{stream} {share:+.2f}" for stream, share in attribution["shares"].items() if share)
            print(f"row {attribution['row']}: {attribution['answer']}, because of {shares}")

        # A request cannot name a file on the server.
        refused = client.post("/predict", json={"row": {"photo": "/etc/passwd"}})
        print(refused.status_code, refused.json()["error"]["column"], refused.json()["error"]["problem"])
