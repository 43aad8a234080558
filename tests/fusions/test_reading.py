"""What can be read from a fusion, and the options it refuses."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from sensorium.core.contracts import Fusion
from sensorium.core.errors import ConfigError
from sensorium.core.recipe import Recipe
from sensorium.core.registry import build, kinds, resolve
from sensorium.fusions.weighted import Weighted
from sensorium.testing import samples
from sensorium.testing.fusions import littered
from sensorium.testing.general import assert_same, perturbed

DIM = 16
SIZES = {"photo": 4, "note": 2, "sound": 3}
STREAMS = list(SIZES)
PRESENT = torch.tensor(list(product([True, False], repeat=3)))  # the last row has nothing
SHARING = {
    "single",
    "weighted",
    "gated",
    "cross_attention",
    "cross_modal",
    "pairwise",
    "bottleneck",
    "early",
    "late",
    "stream_imputation",
}
LOOKING = {"cross_attention", "cross_modal", "pairwise", "early"}
GATING = {"gated", "film", "deep"}


def made(spec: str | dict[str, Any]) -> Fusion:
    torch.manual_seed(0)
    fusion: Fusion = build("fusions", spec, STREAMS, DIM)
    return perturbed(fusion).eval()


@pytest.mark.parametrize("kind", kinds("fusions"))
def test_what_it_says_of_its_weights_is_true_to_its_form(kind: str) -> None:
    parts = samples.streams(SIZES, DIM, PRESENT)
    fusion = made(kind)
    with torch.no_grad():
        weights = fusion.weights(parts)
        assert_same(weights, fusion.weights(littered(parts)), "what stands in absent rows matters")
    real = torch.cat([parts[s].mask for s in STREAMS], dim=1)
    owner = torch.arange(3).repeat_interleave(torch.tensor(list(SIZES.values())))
    assert ("share" in weights) == (kind in SHARING)
    assert ("attention" in weights) == (kind in LOOKING)
    assert ("gate" in weights) == (kind in GATING)
    if "share" in weights:
        assert weights["share"].shape == PRESENT.shape
        assert bool((weights["share"] >= 0).all())
        assert not bool(weights["share"][~PRESENT].any())
        torch.testing.assert_close(weights["share"].sum(dim=1), PRESENT.any(dim=1).float())
    if "gate" in weights:
        assert weights["gate"].shape == (*PRESENT.shape, DIM)
        assert not bool(weights["gate"][~PRESENT].any())
    if "attention" in weights:
        look = weights["attention"]
        assert look.shape == (len(PRESENT), len(owner), len(owner))
        assert not bool(look.masked_select(~(real.unsqueeze(2) & real.unsqueeze(1))).any())
        own = owner.unsqueeze(1) == owner
        others = PRESENT.sum(dim=1, keepdim=True) > 1
        if kind != "early":
            assert not bool(look[:, own].any()), "a token looks at its own stream"
        reach = real if kind == "early" else real & others
        torch.testing.assert_close(look.sum(dim=2), reach.float())


def test_the_attention_told_is_the_attention_used() -> None:
    """Values that say who they are: what comes out of the layer is what the weights say was looked at."""
    from sensorium.nn.attention import Attention

    torch.manual_seed(0)
    layer = Attention(8, 2).double()
    with torch.no_grad():
        layer.key_value.weight[8:] = torch.eye(8, dtype=torch.float64)
        layer.key_value.bias.zero_()
        layer.output.weight.copy_(torch.eye(8, dtype=torch.float64))
        layer.output.bias.zero_()
        context, mask = torch.randn(3, 5, 8, dtype=torch.float64), torch.rand(3, 4, 5) < 0.6
        queries = torch.randn(3, 4, 8, dtype=torch.float64)
        context[..., :] = context[..., :1]  # all features of a token alike, so that heads may be averaged
        mixed = layer(queries, context, mask)
        weights = layer.weights(queries, context, mask) @ context
        torch.testing.assert_close(mixed.mean(dim=2), weights.mean(dim=2))


def test_bottleneck_says_what_its_shared_tokens_look_at() -> None:
    parts = samples.streams(SIZES, DIM, PRESENT)
    look = made("bottleneck").weights(parts)["bottleneck"]
    real = torch.cat([parts[s].mask for s in STREAMS], dim=1)
    assert look.shape == (len(PRESENT), 4, sum(SIZES.values()))
    assert not bool(look.masked_select(~real.unsqueeze(1)).any())
    assert bool((look.sum(dim=2) < 1).all()), "some of it goes to the shared tokens themselves"
    assert bool((look.sum(dim=2)[:-1] > 0).all())


def test_given_weights_are_the_weights() -> None:
    parts = samples.streams(SIZES, DIM, PRESENT)
    fixed = {"photo": 6.0, "note": 3.0, "sound": 1.0}
    fusion = made({"kind": "weighted", "fixed": fixed})
    assert isinstance(fusion, Weighted)
    assert not list(fusion.parameters())
    assert fusion.coefficients() == pytest.approx({"photo": 0.6, "note": 0.3, "sound": 0.1})
    want = 0.6 * parts["photo"].pooled + 0.3 * parts["note"].pooled + 0.1 * parts["sound"].pooled
    torch.testing.assert_close(fusion(parts).pooled[0], want[0])
    two = 0.75 * parts["note"].pooled + 0.25 * parts["sound"].pooled  # the photo is missing: the rest share its weight
    torch.testing.assert_close(fusion(parts).pooled[4], two[4])


def test_free_weights_are_used_as_they_are() -> None:
    parts = samples.streams(SIZES, DIM, PRESENT)
    fixed = {"photo": 2.0, "note": -1.0, "sound": 0.0}
    fusion = made({"kind": "weighted", "fixed": fixed, "normalise": False})
    assert isinstance(fusion, Weighted)
    assert fusion.coefficients() == pytest.approx(fixed)
    torch.testing.assert_close(fusion(parts).pooled, 2 * parts["photo"].pooled - parts["note"].pooled)
    learnt = made({"kind": "weighted", "normalise": False})
    assert isinstance(learnt, Weighted)
    assert learnt.logits is not None
    want = sum(a * parts[s].pooled for a, s in zip(learnt.logits.detach(), STREAMS, strict=True))
    torch.testing.assert_close(learnt(parts).pooled, want)
    assert list(learnt.coefficients().values()) == pytest.approx(learnt.logits.tolist())
    for fusion in (learnt, made({"kind": "weighted", "fixed": fixed, "normalise": False})):
        share = fusion.weights(parts)["share"]
        torch.testing.assert_close(share.sum(dim=1), PRESENT.any(dim=1).float())


BAD: list[tuple[dict[str, Any], str]] = [
    ({"kind": "gated", "temperature": 0.0}, "temperature"),
    ({"kind": "gated", "temperature": -1.0}, "temperature"),
    ({"kind": "concat", "depth": -1}, "depth"),
    ({"kind": "concat", "dropout": 1.0}, "dropout"),
    ({"kind": "lowrank", "rank": 0}, "rank"),
    ({"kind": "lowrank", "dropout": 1.5}, "dropout"),
    ({"kind": "lowrank_tensor", "rank": 0}, "rank"),
    ({"kind": "bilinear", "features": 0}, "features"),
    ({"kind": "tensor", "features": 0}, "features"),
    ({"kind": "film", "dropout": -0.1}, "dropout"),
    ({"kind": "bottleneck", "depth": 1}, "depth"),
    ({"kind": "bottleneck", "tokens": 0}, "tokens"),
    *(({"kind": kind, "depth": 0}, "depth") for kind in ("cross_attention", "cross_modal", "pairwise", "early", "deep")),
    *(
        ({"kind": kind, "heads": 0}, "heads")
        for kind in ("cross_attention", "cross_modal", "pairwise", "early", "deep", "bottleneck")
    ),
    *(
        ({"kind": kind, "heads": 3}, "heads")
        for kind in ("cross_attention", "cross_modal", "pairwise", "early", "deep", "bottleneck")
    ),
    *(
        ({"kind": kind, "dropout": 2.0}, "dropout")
        for kind in ("cross_attention", "cross_modal", "pairwise", "early", "deep")
    ),
    ({"kind": "late", "decide": "loudest"}, "decide"),
    ({"kind": "weighted", "fixed": {"photo": 1.0, "note": 1.0}}, "no weight for sound"),
    ({"kind": "weighted", "fixed": {"photo": 1.0, "note": 1.0, "sound": 1.0, "sond": 2.0}}, "did you mean sound"),
    ({"kind": "weighted", "fixed": {"photo": 1.0, "note": 0.0, "sound": 1.0}}, "normalise"),
    ({"kind": "weighted", "fixed": dict.fromkeys(STREAMS, 1.0), "weights": "row"}, "contradict"),
    ({"kind": "weighted", "fixed": {"photo": "much"}}, "fixed"),
]


@pytest.mark.parametrize(("spec", "word"), BAD, ids=[f"{spec['kind']}-{i}" for i, (spec, _) in enumerate(BAD)])
def test_a_bad_option_is_refused_by_name(spec: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        build("fusions", spec, STREAMS, DIM)


def test_tensor_refuses_what_would_not_fit_and_says_what_would(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError) as error:
        build("fusions", {"kind": "tensor", "features": 32}, [f"s{i}" for i in range(8)], 64)
    assert "MB" in str(error.value)
    assert "lowrank" in str(error.value)
    assert f"{33**8:,} entries" in str(error.value)
    monkeypatch.setattr("sensorium.fusions.tensor.available", lambda: 64 << 20)
    with pytest.raises(ConfigError, match=r"features: \d+") as error:
        build("fusions", {"kind": "tensor", "features": 40}, STREAMS, 64)
    proposed = int(str(error.value).split("features: ")[1].split(",")[0])
    assert proposed > 1
    build("fusions", {"kind": "tensor", "features": proposed}, STREAMS, 64)
    with pytest.raises(ConfigError):
        build("fusions", {"kind": "tensor", "features": proposed + 1}, STREAMS, 64)


def test_orders_of_the_outer_product() -> None:
    from sensorium.nn.outer_product import orders, outer

    u, v = torch.tensor([[2.0, 3.0]]), torch.tensor([[5.0, 7.0]])
    assert outer([u, v]).tolist() == [[1, 5, 7, 2, 10, 14, 3, 15, 21]]
    assert orders(2, 2).tolist() == [0, 1, 1, 1, 2, 2, 1, 2, 2]
    assert outer([u, torch.zeros(1, 2)]).tolist() == [[1, 0, 0, 2, 0, 0, 3, 0, 0]]


def compose(**options: Any) -> dict[str, Any]:
    return {"kind": "compose", **options}


GROUPS = {"near": {"streams": ["photo", "sound"], "fusion": {"kind": "gated", "temperature": 0.5}}}


def test_compose_is_one_fusion_after_another() -> None:
    parts = samples.streams(SIZES, DIM, PRESENT)
    fusion = made(compose(groups=GROUPS, fusion="weighted"))
    inner = fusion.inner["near"](parts)  # type: ignore[index, operator]
    want = fusion.outer({"near": inner, "note": parts["note"]})  # type: ignore[operator]
    assert_same(fusion(parts), want, "not the outer fusion of the inner one")
    share = fusion.weights(parts)["share"]
    torch.testing.assert_close(share.sum(dim=1), PRESENT.any(dim=1).float())
    assert not bool(share[~PRESENT].any())
    assert made(compose(groups=GROUPS)).weights(parts) == {}, "lowrank has no shares"


def test_compose_may_hold_a_compose() -> None:
    deeper = {"all": {"streams": STREAMS, "fusion": compose(groups=GROUPS, fusion="concat")}}
    parts = samples.streams(SIZES, DIM, PRESENT)
    out = made(compose(groups=deeper, fusion="single"))(parts)
    assert_same(out.pooled, made(compose(groups=deeper, fusion="single"))(littered(parts)).pooled, "absent rows matter")


def test_the_recipes_of_the_guide_build() -> None:
    text = (Path(__file__).parents[2] / "docs" / "fusions.md").read_text(encoding="utf-8")
    recipes = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]
    assert [Recipe.parse(recipe).model.fusion["kind"] for recipe in recipes] == ["weighted", "compose"]  # type: ignore[index]
    build("fusions", recipes[0]["model"]["fusion"], ["photo", "note", "sound"], DIM)
    build("fusions", recipes[1]["model"]["fusion"], ["accel", "gyro", "photo", "sound", "note"], DIM)


def test_compose_writes_out_the_options_of_the_fusions_inside() -> None:
    full = resolve("fusions", compose(groups=GROUPS, fusion={"kind": "concat", "depth": 2}))
    assert full["groups"]["near"]["fusion"] == {"kind": "gated", "temperature": 0.5}
    assert full["fusion"] == {"kind": "concat", "depth": 2, "missing": "learned", "dropout": 0.1}
    assert resolve("fusions", full) == full


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"groups": {"near": {"streams": ["photo", "sond"], "fusion": "gated"}}}, "did you mean sound"),
    ({"groups": {"near": {"streams": ["photo"], "fusion": "gate"}}}, "group 'near'.*did you mean gated"),
    ({"groups": {"near": {"streams": ["photo"], "fusion": {"kind": "gated", "temprature": 1}}}}, "temperature"),
    (
        {"groups": {"near": {"streams": ["photo"], "fusion": {"kind": "gated", "temperature": 0}}}},
        "group 'near'.*temperature",
    ),
    ({"groups": {"near": {"streams": ["photo"]}}}, "group 'near'"),
    ({"groups": {"near": ["photo", "sound"]}}, "group 'near'"),
    ({"groups": {"near": {"streams": "photo", "fusion": "gated"}}}, "streams"),
    ({"groups": {"near": {"streams": [], "fusion": "gated"}}}, "streams"),
    ({"groups": {"near": {"streams": ["photo"], "fusion": "gated", "weight": 1}}}, "no such key 'weight'"),
    ({"groups": {"note": {"streams": ["photo"], "fusion": "gated"}}}, "has the name of a stream"),
    (
        {"groups": {x: {"streams": ["photo"], "fusion": "gated"} for x in ("a", "b")}},
        "more than one group",
    ),
    ({"groups": {"near": {"streams": ["photo", "note"], "fusion": "late"}}}, "late"),
    ({"fusion": "lowrnk"}, "did you mean lowrank"),
    ({"fusion": {"rank": 3}}, "name"),
    ({"group": {}}, "groups"),
]


@pytest.mark.parametrize(("options", "word"), WRONG, ids=range(len(WRONG)))
def test_compose_says_what_is_wrong_with_what_it_holds(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        build("fusions", compose(**options), STREAMS, DIM)
