"""Checks of adapters."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from sensorium.core.batch import Encoded
from sensorium.core.contracts import Adapter
from sensorium.core.registry import build
from sensorium.testing import samples
from sensorium.testing.general import assert_same, check_description, check_gradients, check_module, perturbed

IN, OUT = 12, 16


def check_adapter(kind: str) -> None:
    """Check the adapter ``kind``: it preserves presence, is zero where masked and absent, keeps rows independent, and
    ignores padding."""
    check_description("adapters", kind)
    where = f"adapters/{kind}"
    present = torch.tensor([[True], [False], [True], [True]])
    maps = (torch.randn(4, 3, 2, 2), torch.randn(4, 5, 1, 1))
    part = replace(samples.streams({"one": 5}, IN, present)["one"], grid=(5,), pyramid=maps)

    def make() -> Adapter:
        torch.manual_seed(0)
        adapter: Adapter = build("adapters", kind, IN, OUT)
        return adapter

    check_module(make, lambda module: module(part))
    adapter = perturbed(make()).eval()
    with torch.no_grad():
        out = adapter(part)
        assert out.tokens.shape[::2] == (4, OUT), f"{where}: tokens are {tuple(out.tokens.shape)}"
        assert out.pooled.shape == (4, OUT), f"{where}: pooled is {tuple(out.pooled.shape)}"
        assert_same(out.present, part.present, f"{where}: present changed")
        assert not out.grid or math.prod(out.grid) == out.tokens.shape[1], (
            f"{where}: a grid of {out.grid} is not its tokens"
        )
        assert_same(out.pyramid, part.pyramid, f"{where}: the pyramid does not pass unchanged")
        assert not bool(out.pooled[~out.present].any()), f"{where}: an absent row's vector is not zero"
        assert not bool(out.mask[~out.present].any()), f"{where}: an absent row has real tokens"
        assert not bool(out.tokens[~out.mask].any()), f"{where}: tokens are not zero where masked"
        longer = Encoded(
            torch.cat([part.tokens, torch.zeros(4, 2, IN)], 1), torch.cat([part.mask, torch.zeros(4, 2).bool()], 1),
            part.pooled, part.present,
        )  # fmt: skip
        padded = adapter(longer)
        assert_same(padded.pooled, out.pooled, f"{where}: longer padding changes the vector")
        assert_same(padded.tokens[padded.mask], out.tokens[out.mask], f"{where}: longer padding changes the tokens")
        for i in range(4):
            alone = adapter(part.map(lambda tensor, i=i: tensor[i : i + 1]))  # type: ignore[misc]
            assert_same(alone.pooled, out.pooled[i : i + 1], f"{where}: row {i} depends on its batch")
    adapter.train()
    check_gradients(adapter, adapter(part))
