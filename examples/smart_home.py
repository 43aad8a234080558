"""A smart home: camera, microphone and sensors → what somebody does each second → what a device does. Synthetic data."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import sensorium as sm
from sensorium.data.synthetic_home import make
from sensorium.streaming.live_client import predict_locally, read_recording
from sensorium.streaming.stream_session import Setup

ACTION = {"cook": "fan on", "wash": "fan off", "rest": "blinds down", "away": "lights off"}
RECIPE = Path(__file__).parents[1] / "recipes" / "smart_home.yaml"

with TemporaryDirectory() as folder:
    tables = make(folder, rows=168, holes=0.08)
    quick = ["model.size=tiny", "training.epochs=10", "training.lr=0.005", "model.experts=[]"]
    model = sm.fit(tables["train"], recipe=RECIPE, overrides=quick, quiet=True)
    scores = model.evaluate(tables["test"]).targets["activity"]
    print("share of the seconds that are right, with these streams")
    for streams, metrics in scores.subsets.items():
        print(f"  {streams:<26} {metrics['accuracy']:.2f}  {'█' * round(30 * metrics['accuracy'])}")

    # Live: three columns at once, joined each second; the camera goes off in the second half, and cells are missing anyway.
    evening = list(sm.Table.read(tables["test"]).rows())
    sounds = {
        second: read_recording(Path(folder, row["microphone"]), "audio", None)
        for second, row in enumerate(evening)
        if row["microphone"]
    }
    rate = next(iter(sounds.values()))[1]

    def chunks():
        for second, row in enumerate(evening):
            if row["camera"] and second < len(evening) / 2:
                yield "camera", second, Path(folder, row["camera"]).read_bytes()
            if row["sensors"]:
                yield "sensors", 8 * second, np.array(json.loads(row["sensors"]), np.float32)
            if second in sounds:
                heard = sounds[second][0]  # half a second; the rest is silence
                yield "microphone", round(rate) * second, np.pad(heard, ((0, round(rate) - len(heard)), (0, 0)))

    live = {"columns": {"camera": 1.0, "microphone": rate, "sensors": 8.0}, "seconds": 1.0, "hop": 1.0, "wait": 0.5}
    *answers, last = predict_locally(model.predictor, Setup.from_json(live), chunks())
    activity, doing = "", ""
    for answer in answers:  # a device is switched once two seconds in a row agree
        value, second = answer["prediction"]["targets"]["activity"]["value"], round(answer["start"])
        if value == activity != doing:
            doing = value
            off = f", without {' and '.join(answer['absent'])}" if "absent" in answer else ""
            print(f"second {second:2}: {doing:<4} → {ACTION[doing]:<11} (truly {evening[second]['activity']}{off})")
        activity = value
    summary = last["summary"]
    print(f"{summary['answered']} seconds answered, without {summary['absent']}; slowest {summary['latency_ms']['p99']} ms")
