"""Simulated loans of small firms: a table, the balance of an account, the news, and whether the loan was paid back.

sector     building, retail or farming
debt       debts for each unit of income
balance    the balance of the account over 24 months, as a list: it falls and swings more before a default
news       a headline about the sector or the firm
defaulted  yes or no
loss       the share of the loan that was lost, in per cent; 0 without a default
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from sensorium.data.synthetic_tables import check, write

SECTORS = ("building", "retail", "farming")
MONTHS = 24
_BAD = ("Orders in {s} collapse", "Two big {s} customers cancel their contracts", "Banks warn of trouble in {s}")
_GOOD = ("Orders in {s} reach a record", "New contracts for {s} firms", "Good year ahead for {s}, say banks")


def make(folder: Path | str, rows: int = 300, seed: int = 0, *, holes: float = 0.0, test: float = 0.25) -> dict[str, Path]:
    """Write ``train.csv`` and ``test.csv``; the same arguments give the same files.

    Args:
        folder: Where to write; created if missing.
        rows: The number of loans.
        seed: Random seed.
        holes: The share of cells of the inputs that are missing.
        test: The share of rows in ``test.csv``.

    Returns:
        The paths of the tables by name.

    Raises:
        ConfigError: The arguments are invalid.
    """
    check("loans", rows, holes, test)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for i in range(rows):
        rng = np.random.default_rng([seed, i])
        sector, debt, trend, bad = int(rng.integers(3)), rng.lognormal(0, 0.5), rng.normal(0, 1), rng.random() < 0.5
        risk = 1.2 * np.log(debt) - 1.5 * trend + 1.5 * (1 if bad else -1) + 0.4 * (sector == 0) - 0.5
        defaulted = rng.random() < 1 / (1 + np.exp(-1.5 * risk))
        swing = np.cumsum(rng.normal(0, 0.6 if trend > 0 else 1.2, MONTHS))
        balance = 20 + 0.5 * trend * np.arange(MONTHS) + swing
        headline = (_BAD if bad else _GOOD)[int(rng.integers(3))].format(s=SECTORS[sector])
        written.append(
            {
                "sector": SECTORS[sector],
                "debt": f"{debt:.2f}",
                "balance": json.dumps(balance.round(2).tolist()),
                "news": headline,
                "defaulted": "yes" if defaulted else "no",
                "loss": f"{np.clip(rng.normal(30 + 15 * risk, 8), 1, 100):.1f}" if defaulted else "0",
            }
        )
    return write(folder, written, test=test, holes=holes, keep=("defaulted", "loss"), seed=seed)
