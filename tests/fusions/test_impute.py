"""Filled-in streams: what stands where, and that the promises of a fusion hold for each way of filling."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sensorium.core.batch import Encoded
from sensorium.core.errors import ConfigError
from sensorium.core.registry import build, resolve
from sensorium.fusions.stream_imputation import StreamImputation
from sensorium.testing import samples
from sensorium.testing.fusions import DIM, PRESENT, SIZES, check_shape, littered, padded
from sensorium.testing.general import assert_same, perturbed

STREAMS = list(SIZES)
HOWS = ["zero", "mean", "token", "generate"]


def make(how: str, fusion: Any = "gated") -> StreamImputation:
    torch.manual_seed(0)
    made = perturbed(build("fusions", {"kind": "stream_imputation", "how": how, "fusion": fusion}, STREAMS, DIM))
    if how == "mean":
        made.mean.normal_(generator=torch.Generator().manual_seed(4))
    return made.eval()  # type: ignore[no-any-return]


@pytest.fixture
def parts() -> dict[str, Encoded]:
    return samples.streams(SIZES, DIM, PRESENT)


@pytest.mark.parametrize("inner", ["gated", "cross_attention", "concat"])
@pytest.mark.parametrize("how", HOWS)
def test_a_fusions_promises_hold_however_it_fills(how: str, inner: str, parts: dict[str, Encoded]) -> None:
    fusion = make(how, inner)
    with torch.no_grad():
        out = fusion(parts)
        check_shape(out, PRESENT.any(dim=1), how)
        assert_same(out, fusion(littered(parts)), "what stands in absent rows matters")
        assert_same(out.pooled, fusion({s: padded(p) for s, p in parts.items()}).pooled, "longer padding matters")
        assert_same(out.pooled[3:4], fusion({s: p.map(lambda t: t[3:4]) for s, p in parts.items()}).pooled, "rows mix")
        whole = PRESENT.all(dim=1)
        assert_same(out.pooled[whole], fusion.inner(parts).pooled[whole], "rows with everything are not left alone")


@pytest.mark.parametrize("how", HOWS)
def test_what_stands_in_an_absent_streams_place(how: str, parts: dict[str, Encoded]) -> None:
    fusion = make(how)
    filled = fusion.filled(littered(parts))
    some = PRESENT.any(dim=1)
    for i, (stream, part) in enumerate(filled.items()):
        own = PRESENT[:, i]
        assert_same(part.pooled[own], parts[stream].pooled[own], "a stream that is there was touched")
        assert_same(part.tokens[own], parts[stream].tokens[own], "a stream that is there was touched")
        gone = some & ~own
        assert torch.equal(part.present, own if how == "zero" else some)
        if how == "zero":
            continue
        assert torch.equal(part.mask[gone].sum(dim=1), torch.ones(int(gone.sum()), dtype=torch.long))
        torch.testing.assert_close(part.tokens[gone, 0], part.pooled[gone])
        assert not bool(part.tokens[gone, 1:].any())
        if how == "mean":
            torch.testing.assert_close(part.pooled[gone], fusion.mean[i].expand(int(gone.sum()), -1))
        if how == "token":
            assert fusion.token is not None
            torch.testing.assert_close(part.pooled[gone], fusion.token[i].expand(int(gone.sum()), -1))
        if how == "generate":
            assert fusion.guess is not None
            for row in gone.nonzero()[:, 0].tolist():
                others = [j for j in range(len(STREAMS)) if j != i]
                weights = [parts[STREAMS[j]].pooled[row] if PRESENT[row, j] else torch.zeros(DIM) for j in others]
                flat = torch.cat(
                    [torch.cat([x, PRESENT[row, j, None].float()]) for x, j in zip(weights, others, strict=True)]
                )
                torch.testing.assert_close(part.pooled[row], fusion.guess.networks[i](flat), rtol=1e-4, atol=1e-5)


def test_the_mean_is_that_of_the_rows_that_were_there(parts: dict[str, Encoded]) -> None:
    fusion = make("mean").train()
    fusion.mean.zero_()
    fusion(littered(parts))
    for i, stream in enumerate(STREAMS):
        torch.testing.assert_close(fusion.mean[i], parts[stream].pooled[PRESENT[:, i]].mean(dim=0))
    other = samples.streams(SIZES, DIM, PRESENT, seed=3)
    first = fusion.mean.clone()
    fusion(other)
    expected = (first[0] + other[STREAMS[0]].pooled[PRESENT[:, 0]].mean(dim=0)) / 2
    torch.testing.assert_close(fusion.mean[0], expected)
    before = fusion.mean.clone()
    absent = {**other, STREAMS[0]: other[STREAMS[0]].hide(torch.zeros(len(PRESENT), dtype=torch.bool))}
    fusion(absent)
    torch.testing.assert_close(fusion.mean[0], before[0])  # a batch without it says nothing
    assert not torch.equal(fusion.mean[1], before[1])
    fusion.eval()
    before = fusion.mean.clone()
    fusion(parts)
    assert torch.equal(fusion.mean, before)


def test_shares_are_those_of_streams_that_are_there(parts: dict[str, Encoded]) -> None:
    for how in HOWS:
        share = make(how, "weighted").weights(parts)["share"]
        assert not bool(share[~PRESENT].any())
        torch.testing.assert_close(share.sum(dim=1), PRESENT.any(dim=1).float())
    assert make("token", "concat").weights(parts) == {}


def test_the_inner_fusion_is_checked_and_written_out() -> None:
    full = resolve("fusions", {"kind": "stream_imputation", "fusion": {"kind": "gated", "temperature": 2.0}})
    assert full["fusion"] == {"kind": "gated", "temperature": 2.0}
    assert resolve("fusions", "stream_imputation")["fusion"] == resolve("fusions", "gated")
    with pytest.raises(ConfigError, match="did you mean gated"):
        resolve("fusions", {"kind": "stream_imputation", "fusion": "gatet"})
    with pytest.raises(ConfigError, match="temprature"):
        resolve("fusions", {"kind": "stream_imputation", "fusion": {"kind": "gated", "temprature": 2.0}})
    with pytest.raises(ConfigError, match="late answers"):
        resolve("fusions", {"kind": "stream_imputation", "fusion": "late"})
