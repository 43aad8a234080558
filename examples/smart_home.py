"""A smart home: camera, microphone and sensors → what somebody does each second → what a device does. Synthetic data."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import sensorium as sm
from sensorium.data.synthetic_home import make

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

    # Live: second by second, the camera off in the second half. A device is switched once two seconds in a row agree.
    evening = sm.Table.read(tables["test"])
    activity, doing, slowest = "", "", 0.0
    for second, row in enumerate(evening.rows()):
        start = time.perf_counter()
        seen = {name: cell for name, cell in row.items() if second < len(evening) / 2 or name != "camera"}
        (answer,) = model.predict([seen], media=folder)
        slowest = max(slowest, time.perf_counter() - start)
        if answer.value == activity != doing:
            doing = activity
            off = f", without {' and '.join(answer.missing)}" if answer.missing else ""
            print(f"second {second:2}: {doing:<4} → {ACTION[doing]:<11} (truly {row['activity']}{off})")
        activity = answer.value
    print(f"slowest answer {1000 * slowest:.0f} ms")
