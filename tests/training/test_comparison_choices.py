"""What a comparison can vary: encoders, augmentations and experts, in every combination."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sensorium.core import registry
from sensorium.core.errors import ConfigError
from sensorium.core.recipe import Recipe
from sensorium.reporting.console import Console
from sensorium.training.compare import compare
from sensorium.training.comparison_choices import ComparisonRequest, buildable
from sensorium.training.comparison_setup import ComparisonSetup, prepare
from sensorium.training.training_request import Request

QUICK = ["model.size=tiny", "training.epochs=1", "training.batch_size=32"]
LEFT = ("cost", "tags", "note", "sound", "when", "room", "temperature")


@pytest.fixture(scope="module")
def setup(scenes: Path) -> ComparisonSetup:
    request = Request.of(scenes / "train.csv", target="event", ignore=LEFT, overrides=QUICK)
    return prepare(request, scenes / "test.csv", Console(True))[0]


def run_comparison(scenes: Path, out: Path, **more: Any) -> Any:
    options = {
        "target": "event",
        "test": scenes / "test.csv",
        "ignore": LEFT,
        "overrides": QUICK,
        "quiet": True,
        "seeds": 1,
    }
    return compare(scenes / "train.csv", out=out, **(options | more))


def ways(setup: ComparisonSetup, **options: Any) -> dict[str, ComparisonSetup]:
    result, skipped = buildable(setup, ComparisonRequest.of(**options).factors(setup.schema, setup.plan), False)
    assert skipped == {}
    return {way.name: each for way, each in result.items()}


def test_only_the_encoder_changes(setup: ComparisonSetup) -> None:
    vit = {"kind": "vit", "depth": 1}
    results = ways(setup, encoders={"photo": ["convnet", "resnet", vit]})
    assert list(results) == ["photo: convnet", "photo: resnet", "photo: vit depth=1"]
    for name, each in results.items():
        spec = each.plan.model.encoders["photo"]
        assert isinstance(spec, dict)
        assert spec["kind"] == name.removeprefix("photo: ").split()[0]
        same = each.plan.model_copy(update={"model": each.plan.model.model_copy(update={"encoders": {}})})
        whole = setup.plan.model_copy(update={"model": setup.plan.model.model_copy(update={"encoders": {}})})
        assert same == whole
        assert each.plan.model.encoders["sensor"] == setup.plan.model.encoders["sensor"]
        assert each.schema is setup.schema
        assert each.rows is setup.rows
    assert results["photo: convnet"].plan == setup.plan, "the usual one is the usual recipe"
    depth = results["photo: vit depth=1"].plan.model.encoders["photo"]
    assert isinstance(depth, dict)
    assert depth["depth"] == 1, "what is given of an encoder is kept, what is not is sized"


def test_encoder_gets_its_default_adapter_and_rate(scenes: Path) -> None:
    ignored = [*(name for name in LEFT if name != "note"), "photo", "sensor"]
    overrides = [*QUICK, "model.encoders.note=tfidf"]
    request = Request.of(scenes / "train.csv", target="event", ignore=ignored, overrides=overrides)
    setup, _ = prepare(request, None, Console(True))
    results = ways(setup, encoders={"note": "tfidf,bag_of_words"})
    tfidf, bag = (each.plan.model.adapters["note"] for each in results.values())
    assert registry.split(tfidf)[1]["norm"] is False
    assert registry.split(bag)[1]["norm"] is True
    plan = setup.plan.model_copy(update={"training": setup.plan.training.model_copy(update={"lr_scale": {"note": 0.03}})})
    slowed = ComparisonSetup(setup.request, plan, setup.schema, setup.rows, setup.valid, setup.test, setup.store)
    assert slowed.with_encoder("note", "bag_of_words").plan.training.lr_scale == {}, (
        "the slow rate of a pretrained encoder must not carry over"
    )


def test_all_means_encoders_that_can_read_the_stream(setup: ComparisonSetup) -> None:
    (factor,) = ComparisonRequest.of(encoders={"photo": "all"}).factors(setup.schema, setup.plan)
    names = {choice.name.removeprefix("photo: ") for choice in factor.options}
    assert names >= {"convnet", "resnet", "vit", "patch"}
    assert not names & {"bag_of_words", "tfidf", "cells", "pointnet", "graph"}
    assert "huggingface" not in names, "of which checkpoint? it is named with it"
    result, skipped = buildable(setup, [factor], False)
    assert "photo: frames" in skipped, "it reads a grid of three axes: told, and stops nothing"
    assert {way.name.removeprefix("photo: ") for way in result} | {n.removeprefix("photo: ") for n in skipped} == names


def test_augmentation_changes_without_re_encoding(setup: ComparisonSetup) -> None:
    results = ways(setup, augment={"photo": "all"})
    assert list(results) == [f"photo: {strength}" for strength in ("none", "light", "strong", "auto")]
    index = torch.arange(8).numpy()
    drawn = {}
    for name, each in results.items():
        batch = each.rows.batch(index)
        plain = each.schema.prepare(batch).inputs["photo"].data
        drawn[name] = each.schema.prepare(batch, torch.Generator().manual_seed(0)).inputs["photo"].data
        assert torch.equal(plain, setup.schema.prepare(batch).inputs["photo"].data), "answers read cells as they are"
        assert torch.equal(drawn[name], plain) == (name == "photo: none")
        result = each.plan.columns["photo"]
        assert isinstance(result, dict)
        assert f"photo: {result['augment']}" == name, "the recipe says so too"
    assert not torch.equal(drawn["photo: light"], drawn["photo: strong"])


def test_several_factors_give_every_combination(setup: ComparisonSetup) -> None:
    options = ComparisonRequest.of("gated,concat", {"photo": "convnet,resnet"}, {"photo": "none,light"}, "none,linear")
    result, _ = buildable(setup, options.factors(setup.schema, setup.plan), False)
    compared = [way for way in result if not way.single]
    assert len(compared) == len({way.name for way in compared}) == 16
    one = next(way for way in compared if way.name == "concat + photo: resnet + photo: none + experts: linear")
    assert dict(one.changes) == {
        "fusion": "concat",
        "encoders.photo": "photo: resnet",
        "columns.photo.augment": "photo: none",
        "experts": "experts: linear",
    }
    model = result[one].plan.model
    assert registry.split(model.fusion or "")[0] == one.fusion == "concat"
    assert registry.split(model.encoders["photo"])[0] == "resnet"
    assert [registry.split(spec)[0] for spec in model.experts or []] == ["linear"]
    assert {way.name for way in result if way.single} == {"photo alone", "sensor alone"}, "beside fusions only"


def test_default_compares_all_fusions() -> None:
    assert ComparisonRequest.of().fusions == registry.kinds("fusions")
    assert ComparisonRequest.of(encoders={"photo": "convnet"}).fusions is None
    assert ComparisonRequest.of(experts="all").experts[0] == ()
    assert ComparisonRequest.of(experts=["none", ["linear", {"kind": "forest", "trees": 7}]]).experts == (
        (),
        ("linear", {"kind": "forest", "trees": 7}),
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoders": {"photo": "convnt"}}, "did you mean convnet"),
        ({"encoders": {"photo": [{"kind": "vit", "dept": 3}]}}, "did you mean depth"),
        ({"encoders": {"photo": []}}, "no encoders of 'photo' are named"),
        ({"encoders": {"foto": "convnet"}}, "no stream named 'foto'; did you mean photo"),
        (
            {"encoders": {"photo": "bag_of_words"}},
            r"'bag_of_words' cannot read the stream 'photo'\n  → these can: .*convnet",
        ),
        ({"augment": {"foto": "none"}}, "no input column named 'foto'; did you mean photo"),
        ({"augment": {"photo": "lihgt"}}, "column 'photo': no augmentation named 'lihgt'; did you mean light"),
        ({"augment": {"event": "none"}}, "no input column named 'event'"),
        ({"experts": "linaer"}, "did you mean linear"),
        ({"fusions": "gatd"}, "did you mean gated"),
    ],
)
def test_impossible_factors_are_reported(setup: ComparisonSetup, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ComparisonRequest.of(**options).factors(setup.schema, setup.plan)


def test_factors_excluded_by_the_recipe_are_reported(setup: ComparisonSetup, scenes: Path) -> None:
    def plan(section: str, **update: Any) -> Recipe:
        return setup.plan.model_copy(update={section: getattr(setup.plan, section).model_copy(update=update)})

    photo = ComparisonRequest.of(augment={"photo": "none,light"})
    with pytest.raises(ConfigError, match=r"training\.augment is off"):
        photo.factors(setup.schema, plan("training", augment=False))
    with pytest.raises(ConfigError, match="its encoder is frozen"):
        photo.factors(setup.schema, plan("model", surgery=[{"kind": "freeze", "streams": ["photo"]}]))
    with pytest.raises(ConfigError, match="no network"):
        ComparisonRequest.of(encoders={"photo": "convnet"}).factors(setup.schema, plan("model", network=False))
    request = Request.of(scenes / "train.csv", target="event", ignore=["photo", "sensor", "sound", "note"], overrides=QUICK)
    table, _ = prepare(request, scenes / "test.csv", Console(True))
    with pytest.raises(ConfigError, match="column 'room': a column of kind category has no augmentation"):
        ComparisonRequest.of(augment={"room": "none"}).factors(table.schema, table.plan)


def test_encoder_comparison_resumes(scenes: Path, tmp_path: Path, cli: Any) -> None:
    out = tmp_path / "c"
    words = [
        "compare",
        scenes / "train.csv",
        "--test",
        scenes / "test.csv",
        "--target",
        "event",
        "--ignore",
        ",".join(LEFT),
    ]
    words += [*QUICK, "--seeds", "1", "--out", out, "-q"]
    code, stdout, error = cli(*words, "--encoders", "photo=convnet,resnet")
    assert code == 0, error
    document = json.loads((out / "compare.json").read_text(encoding="utf-8"))
    assert document["compared"] == "encoder of photo"
    assert {run["name"] for run in document["runs"]} == {"photo: convnet", "photo: resnet"}
    assert [run["changes"] for run in document["runs"]] == [{"encoders.photo": run["name"]} for run in document["runs"]]
    best, other = document["runs"]
    assert other["behind"] is not None
    assert best["parameters"] != other["parameters"]
    assert f"Best: {best['name']}" in stdout
    recipe = Recipe.from_yaml(out / "winner.yaml")
    assert registry.split(recipe.model.encoders["photo"])[0] == best["name"].removeprefix("photo: ")
    assert "by encoder of photo" in (out / "compare.html").read_text(encoding="utf-8")

    lines = (out / "runs.jsonl").read_text(encoding="utf-8")
    results = run_comparison(scenes, out, encoders={"photo": ["convnet", "resnet", {"kind": "convnet", "depth": 1}]})
    assert len(results.entries) == 3
    assert (out / "runs.jsonl").read_text(encoding="utf-8").startswith(lines), "a further choice joins those there are"
    with pytest.raises(ConfigError, match="another comparison"):
        run_comparison(scenes, out, encoders={"photo": "convnet"}, overrides=[*QUICK, "model.fusion=concat"])


def test_comparison_of_experts_and_augmentations(scenes: Path, tmp_path: Path) -> None:
    ignored = [name for name in LEFT if name not in ("room", "temperature")]
    results = run_comparison(
        scenes, tmp_path / "c", ignore=[*ignored, "sensor"], augment={"photo": "none,strong"}, experts="none,linear"
    )
    assert results.what == "way"
    scores = {entry.way.name: entry.mean for entry in results.entries}
    assert set(scores) == {f"photo: {a} + experts: {e}" for a in ("none", "strong") for e in ("none", "linear")}
    assert results.others == [], "no modality alone: fusions are not compared"
    for strength in ("none", "strong"):
        with_it, without = (scores[f"photo: {strength} + experts: {e}"] for e in ("linear", "none"))
        assert with_it >= without, "one epoch teaches a network little, and linear models are fitted to the end"


def test_command_line_names_misspelt_components(scenes: Path, tmp_path: Path, cli: Any) -> None:
    for words, message in (
        (["--encoders", "convnet"], "--encoders NAME=CHOICES"),
        (["--augment", "photo=none", "--augment", "photo=light"], "names photo a second time"),
        (["--encoders", "photo=[convnet, 3]"], "not a list of components"),
        (["--encoders", "photo=[{kind: vit, dept: 3}]"], "did you mean depth"),
    ):
        code, _, stderr = cli("compare", scenes / "train.csv", "--target", "event", *words, "--out", tmp_path / "x")
        assert code == 2
        assert message in stderr
    assert not (tmp_path / "x").exists()
