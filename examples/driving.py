"""Driving: camera, lidar and speed → boxes, free area, whether to brake; live, with late and lost frames. Simulated."""

from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep

import numpy as np
from starlette.testclient import TestClient

import sensorium as sm
from sensorium.data.synthetic_drives import make
from sensorium.serve.app import create
from sensorium.streaming.stream_session import HEADER

RECIPE = Path(__file__).parents[1] / "recipes" / "driving.yaml"
LOST, LATE = 5, (8, 9)
"""The frame that never arrives, and the two that arrive in the wrong order."""
RATE = 10
"""Frames a second."""

with TemporaryDirectory() as folder:
    tables = make(folder, rows=256, holes=0.08)
    quick = [
        "model.size=tiny",
        "training.epochs=16",
        "training.batch_size=8",
        "training.lr=0.003",
        "model.experts=[]",
        "training.threads=1",
    ]
    model = sm.fit(tables["train"], recipe=RECIPE, overrides=quick, quiet=True)
    scores = model.evaluate(tables["test"]).targets
    print("with these streams        boxes mAP  mAP50  free area IoU  brake accuracy")
    constants = {name: score.baseline for name, score in scores.items()}
    for streams in [*scores["brake"].subsets, "none: constant answers"]:
        boxes, free, brake = (scores[name].subsets.get(streams, constants[name]) for name in ("boxes", "free", "brake"))
        overlap = f"{boxes['map']:8.2f}  {boxes['map50']:5.2f}"
        print(f"  {streams:<24} {overlap}  {free['mean_iou']:13.2f}  {brake['accuracy']:14.2f}")

    # Live over the WebSocket: frames of the camera, and between them what lidar and speedometer measured last.
    rows = list(sm.Table.read(tables["test"]).rows())[:24]
    order = list(range(len(rows)))
    order[LATE[0]], order[LATE[1]] = LATE[1], LATE[0]
    with (
        TestClient(create({"car": model.predictor}), base_url="http://localhost") as client,
        client.websocket_connect("ws://localhost/stream") as socket,
    ):
        socket.send_json({"column": "camera", "rate": RATE, "keep": True})
        socket.receive_json()
        for number in order:
            sleep(1 / RATE)  # as a camera sends them
            row = rows[number]
            if number == LOST or not row["camera"]:
                continue  # a lost frame: recognised by the number of the next one
            scan = np.load(Path(folder, row["lidar"])).round(2).tolist() if row["lidar"] else None
            socket.send_json({"row": {"lidar": scan, "speed": row["speed"] or None}})
            socket.send_bytes(HEADER.pack(number, number) + Path(folder, row["camera"]).read_bytes())
        socket.send_json({"end": True})
        while "summary" not in (message := socket.receive_json()):
            frame, answer = round(RATE * message["start"]), message["prediction"]["targets"]
            if answer["brake"]["value"] == "yes":
                seen = ", ".join(thing["label"] for thing in answer["boxes"]["value"]) or "nothing named"
                print(f"frame {frame:2}: brake (truly {rows[frame]['brake']}); ahead: {seen}")
    summary = message["summary"]
    times = summary["latency_ms"]
    print(
        f"{summary['answered']} frames answered, {summary['lost']} lost, {summary['late']} late; "
        f"p50 {times['p50']:.0f} ms, p99 {times['p99']:.0f} ms"
    )
