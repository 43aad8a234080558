"""Forecasts of tomorrow's load, hour by hour, from a long table of simulated meters with gaps; a backtest over time."""

from tempfile import TemporaryDirectory

import sensorium as sm
from sensorium.data.synthetic_meters import make

with TemporaryDirectory() as folder:
    tables = make(folder, rows=32)
    windows = {"horizon": 24, "time": "time", "series": "meter", "known": ["temperature"], "past": 72, "stride": 3}
    quick = ["model.size=tiny", "training.epochs=6", "training.lr=0.005"]
    model = sm.fit(tables["train"], target="load", task="forecasting", options=windows, overrides=quick, quiet=True)

    # Only futures that begin after everything seen in training are scored.
    backtest = model.evaluate(tables["test"]).targets["load"]
    print(f"MASE {backtest.metrics['mase']:.2f}; within the 80 % interval {backtest.metrics['coverage_80']:.0%}")
    for row in next(view for view in backtest.views if view.name == "simple_methods").to_json():
        print(f"  {row['method']:<32} {row['MASE']:.2f}")
    print(f"without what is known in advance {backtest.subsets['table+past']['mase']:.2f}")

    # The last day of the table has temperatures and no load.
    north = model.predict(tables["test"])[0].targets["load"]
    low, high = north["quantiles"]["0.1"], north["quantiles"]["0.9"]
    for hour in range(0, 24, 4):
        time, value = north["times"][hour], north["value"][hour]
        print(f"{time[5:16]}  {value:5.1f} kW ({low[hour]:.1f} to {high[hour]:.1f})  {'█' * round(value / 2)}")
