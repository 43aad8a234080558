"""Retrieval: losses against their formulas, rankings against brute force, pairs that teach what was never paired."""

from __future__ import annotations

import csv
import json
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

import sensorium as sm
from sensorium.core.batch import Batch, Field
from sensorium.core.errors import ConfigError
from sensorium.core.goal import Goal
from sensorium.core.layout import Graph, Grid, Ids, Row
from sensorium.core.registry import build
from sensorium.heads.common_space import Sides
from sensorium.heads.feature_matching import LINEAR, TF_IDF, FeatureMatcher
from sensorium.metrics.retrieval import chance, rank_queries, score_rankings, weighted_median
from sensorium.nn.contrastive_loss import sigmoid_loss, softmax_loss

QUICK = ["model.size=tiny", "training.lr=0.005", "training.batch_size=32"]


def goal(*streams: str) -> Goal:
    return Goal("r", {}, {}, {stream: Row((0,)) for stream in streams})


def sides(vectors: torch.Tensor, present: torch.Tensor) -> Sides:
    vectors = torch.nn.functional.normalize(vectors, dim=2) * present[:, :, None]
    return Sides(vectors, present, torch.full((len(vectors),), 5.0), torch.full((len(vectors),), -1.0))


def test_softmax_of_single_positives_is_cross_entropy() -> None:
    logits = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    own, every = torch.eye(6, dtype=torch.bool), torch.ones(6, 6, dtype=torch.bool)
    wanted = torch.nn.functional.cross_entropy(logits, torch.arange(6), reduction="none")
    assert torch.allclose(softmax_loss(logits, own, every), wanted, atol=1e-6)


def test_several_positives_match_a_formula_in_double() -> None:
    draw = np.random.default_rng(0)
    logits, positive, counted = draw.normal(size=(5, 7)), draw.random((5, 7)) < 0.4, draw.random((5, 7)) < 0.8
    positive[0] = False
    inputs = torch.tensor(logits), torch.tensor(positive), torch.tensor(counted)
    for row, soft, sigmoid in zip(range(5), softmax_loss(*inputs), sigmoid_loss(*inputs), strict=True):
        both = positive[row] & counted[row]
        total = np.log(np.exp(logits[row][counted[row]]).sum())
        wanted = np.mean([total - logits[row][j] for j in np.flatnonzero(both)]) if both.any() else 0.0
        assert float(soft) == pytest.approx(wanted)
        signs = np.where(positive[row], 1, -1)
        assert float(sigmoid) == pytest.approx(np.log1p(np.exp(-signs * logits[row]))[counted[row]].sum())


@pytest.mark.parametrize("matches", ["positive", "neutral"])
@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_the_loss_is_the_mean_over_pairs_of_sides_that_are_there(loss: str, matches: str) -> None:
    draw = torch.Generator().manual_seed(1)
    present = torch.tensor([[1, 1, 1], [1, 1, 0], [0, 1, 1], [1, 0, 0], [1, 1, 1], [0, 0, 1]], dtype=torch.bool)
    output = sides(torch.randn(6, 3, 4, generator=draw), present)
    code = torch.tensor([7, 0, 7, 9, 9, 0])
    task = build("tasks", {"kind": "retrieval", "loss": loss, "matches": matches}, goal("a", "b", "c"), 8)
    computed = task.loss(output, Field(torch.cat([code[:, None], present.long()], dim=1), present.any(dim=1)))
    for i in range(6):
        terms = []
        for a, b in permutations(range(3), 2):
            if not present[i, a]:
                continue
            same = [j for j in range(6) if j != i and code[i] != 0 and code[j] == code[i]]
            candidates = [j for j in range(6) if present[j, b] and not (matches == "neutral" and j in same)]
            good = [j for j in candidates if j == i or (matches == "positive" and j in same)]
            logit = {j: 5.0 * float(output.vectors[i, a].double() @ output.vectors[j, b].double()) for j in candidates}
            if loss == "sigmoid":
                terms.append(sum(np.log1p(np.exp(-(1 if j in good else -1) * (logit[j] - 1))) for j in candidates))
            elif good:
                total = np.log(sum(np.exp(value) for value in logit.values()))
                terms.append(np.mean([total - logit[j] for j in good]))
        assert float(computed[i]) == pytest.approx(np.mean(terms) if terms else 0.0, rel=1e-5), i


def brute_force(similarity: np.ndarray, hits: np.ndarray) -> tuple[list[int], list[float]]:
    ranks, precisions = [], []
    for values, good in zip(similarity, hits, strict=True):
        order = np.argsort(-values)
        ranks.append(1 + int(np.flatnonzero(good[order])[0]))
        precisions.append(float(average_precision_score(good, values)))
    return ranks, precisions


def test_rankings_match_brute_force_and_scikit_learn() -> None:
    draw = np.random.default_rng(3)
    similarity, hits = draw.normal(size=(40, 25)), draw.random((40, 25)) < 0.15
    hits[:, 3] = True
    ranks, precisions = brute_force(similarity, hits)
    computed = score_rankings(torch.tensor(similarity), torch.tensor(hits), ("recall", "rank", "precision"))
    assert computed["rank"].tolist() == ranks
    assert computed["precision"].tolist() == pytest.approx(precisions)
    for k in (1, 5, 10):
        assert computed[f"recall_at_{k}"].tolist() == [float(rank <= k) for rank in ranks]


def test_ties_score_the_mean_over_their_orders() -> None:
    draw = np.random.default_rng(4)
    similarity, hits = draw.integers(0, 3, (1, 9)).astype(float), draw.random((1, 9)) < 0.4
    hits[0, 0] = True
    trials = [brute_force(similarity + 1e-6 * draw.random((1, 9)), hits) for _ in range(1500)]
    ranks, precisions = (np.array([trial[i] for trial in trials])[:, 0] for i in range(2))
    computed = score_rankings(torch.tensor(similarity), torch.tensor(hits), ("recall", "rank", "precision"), (1, 2, 3, 5))
    assert float(computed["rank"]) == pytest.approx(ranks.mean(), abs=0.1)
    assert float(computed["precision"]) == pytest.approx(precisions.mean(), abs=0.02)
    for k in (1, 2, 3, 5):
        assert float(computed[f"recall_at_{k}"]) == pytest.approx((ranks <= k).mean(), abs=0.03)
    none = score_rankings(torch.tensor(similarity), torch.zeros(1, 9, dtype=torch.bool), ("recall", "rank", "precision"))
    assert all(bool(values.isnan().all()) for values in none.values())


def test_chance_is_hypergeometric() -> None:
    same = torch.tensor([1, 2, 1, 1, 2, 2, 2])
    result = chance(same, 2, (1, 3))
    assert result["recall_at_1"].tolist() == pytest.approx([2 / 5, 3 / 5])
    assert result["recall_at_3"].tolist() == pytest.approx([1 - 1 / 10, 1.0])


def test_the_weighted_median_is_that_of_repeated_values() -> None:
    values, weights = torch.tensor([5.0, 1.0, 3.0, 9.0]), torch.tensor([[1, 1, 1, 0], [0, 0, 0, 3], [0, 0, 0, 0]]).double()
    assert weighted_median(values, weights).tolist()[:2] == [3.0, 9.0]
    assert bool(weighted_median(values, weights)[2].isnan())


def test_copies_of_an_item_are_one_and_one_sided_rows_are_candidates() -> None:
    task = build("tasks", "retrieval", Goal("r", {}, {"k": build("modalities", "key")}, goal("a", "b").streams), 8)
    eye = torch.eye(4)
    # A picture with three captions, another with one, and one without any.
    pictures = torch.stack([eye[0], eye[0], eye[0], eye[1], eye[2]])
    captions = torch.stack([eye[0], eye[0] + eye[3], eye[2], eye[1], torch.zeros(4)])
    present = torch.tensor([[1, 1], [1, 1], [1, 1], [1, 1], [1, 0]], dtype=torch.bool)
    output = sides(torch.stack([pictures, captions], dim=1), present)
    key = build("modalities", "key")
    codes = key.prepare(key.collate([key.encode(cell) for cell in ("p", "p", "p", "q", "r")]))
    inputs = {s: Field(torch.zeros(5, 1), present[:, i]) for i, s in enumerate(("a", "b"))}
    scorer = task.scorer()
    scorer.update(output, Batch(inputs, {}, torch.ones(5), {"k": codes}))
    to_captions, to_pictures = scorer.directions()
    assert len(to_pictures.same) - len(to_pictures.rows) == 3, "three pictures"
    assert len(to_captions.same) - len(to_captions.rows) == 4, "four captions"
    assert to_pictures.values["rank"].tolist() == [1.0, 1.0, 2.5, 1.0], "behind the lone picture, tied with the other"
    assert to_captions.values["rank"][:4].tolist() == [1.0] * 4
    assert bool(to_captions.values["rank"][4].isnan()), "nothing belongs to it"


def test_unusable_sides_are_refused() -> None:
    for between, predicted in (
        (["a"], "1 is named"),
        (["a", "c"], "no stream named 'c'"),
        (["a", "a+b"], "named twice"),
    ):
        with pytest.raises(ConfigError, match=predicted):
            build("tasks", {"kind": "retrieval", "between": between}, goal("a", "b"), 8)
    with pytest.raises(ConfigError, match="one column"):
        build("tasks", "retrieval", Goal("r", {}, {n: build("modalities", "key") for n in "kl"}, goal("a", "b").streams), 8)
    with pytest.raises(ConfigError, match="category"):
        build("tasks", "retrieval", Goal("r", {}, {"k": build("modalities", "category")}, goal("a", "b").streams), 8)
    joined = build("tasks", {"kind": "retrieval", "between": ["a+b", "c"]}, goal("a", "b", "c"), 8)
    assert dict(joined.sides) == {"a+b": ("a", "b"), "c": ("c",)}


def triples(path: Path, rows: int, seed: int, *, whole: bool) -> Path:
    """A, B and C show the same hidden point, each in its own way; training rows have A and B, or B and C."""
    mix = np.random.default_rng(99)
    ways = {name: mix.normal(size=(3, 6)) for name in "abc"}
    draw = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(list("abc"))
        for i in range(rows):
            hidden = draw.normal(size=3)
            cells = {name: np.tanh(hidden @ way) + 0.05 * draw.normal(size=6) for name, way in ways.items()}
            gap = "" if whole else "c" if i % 2 else "a"
            writer.writerow(["" if name == gap else " ".join(f"{x:.4f}" for x in cell) for name, cell in cells.items()])
    return path


def test_a_finds_c_though_they_were_never_paired(tmp_path: Path) -> None:
    train = triples(tmp_path / "train.csv", 300, 0, whole=False)
    test = triples(tmp_path / "test.csv", 120, 1, whole=True)
    model = sm.fit(
        train,
        task="retrieval",
        options={"between": ["a", "b", "c"]},
        columns=dict.fromkeys("abc", "vector"),
        overrides=[*QUICK, "training.epochs=25"],
        quiet=True,
        out=tmp_path / "run",
    )
    assert model.evaluate(test).targets["retrieval"].baseline["recall_at_10"] == pytest.approx(10 / 120)
    task = model.model.tasks["retrieval"]
    rows = list(model.predictor.side_vectors(sm.Table.read(test).rows(), "retrieval"))
    vectors = torch.stack([row.vectors for row in rows])
    assert list(task.sides) == ["a", "b", "c"]
    computed = rank_queries(vectors[:, 0], vectors[:, 2], torch.arange(120).repeat(2), ("recall",))
    assert float(computed["recall_at_10"].mean()) > 0.5, "chance is 0.08"
    answer = model.predict(test)[0].targets["retrieval"]
    assert set(answer["similarities"]) == {"a, b", "a, c", "b, c"}
    assert model.predict([{"a": "1 2 3 4 5 6"}])[0].value is None


def test_several_captions_in_one_cell_are_read_in_turn(tmp_path: Path) -> None:
    captions = ["a red dress", "the blue shoes", "one green hat", "some pink socks"]
    rows = [{"photo": [float(i % 4 == k) for k in range(4)], "caption": captions[i % 4]} for i in range(32)]
    rows[0]["caption"] = ["a red dress", "red clothes"]
    rows[1]["caption"] = json.dumps(["the blue shoes", "footwear"])
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    model = sm.fit(
        tmp_path / "pairs.jsonl",
        task="retrieval",
        options={"between": ["photo", "caption"]},
        columns={"photo": "vector", "caption": "text"},
        overrides=["model.size=tiny", "training.epochs=1", "training.refit=none"],
        quiet=True,
    )
    assert model.recipe.columns["caption"]["alternatives"] == "pick"
    reader = next(column.reader for column in model.predictor.schema.inputs if column.name == "caption")
    encoded = [reader.encode(row["caption"]) for row in rows[:3]]
    first = reader.prepare(reader.collate([reader.encode(row) for row in captions[:3]]))
    scored = reader.prepare(reader.collate(encoded))
    assert torch.equal(scored.data[:, : first.data.shape[1]], first.data)
    assert torch.equal(scored.mask.sum(1), first.mask.sum(1))
    draw = torch.Generator().manual_seed(0)
    read = {reader.decode(reader.prepare(reader.collate(encoded), draw).data[0].numpy()).strip() for _ in range(20)}
    assert read == set(rows[0]["caption"])
    # What scores and searches read is the first of them.
    cells = [{"caption": rows[0]["caption"]}, {"caption": captions[0]}]
    one, other = model.predictor.side_vectors(cells, "retrieval")
    assert torch.allclose(one.vectors, other.vectors)


def test_on_the_command_line_rows_of_one_key_match(tmp_path: Path, cli: Any) -> None:
    draw = np.random.default_rng(0)
    table = tmp_path / "表格.csv"
    centres = draw.normal(size=(5, 2, 4))
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["左", "right", "kind of thing"])
        for i in range(150):
            left, right = centres[i % 5] + 0.1 * draw.normal(size=(2, 4))
            # Half of the rows have one side only: the key alone says what they match.
            cells = [" ".join(f"{x:.3f}" for x in side) for side in (left, right)]
            writer.writerow([cells[0] if i % 4 else "", cells[1] if i % 4 != 1 else "", f"类 {i % 5}"])
    words = ("fit", table, "--task", "retrieval", "--between", "左,right", "--same", "kind of thing", "-q")
    kinds = ("--as", "左=vector", "--as", "right=vector")
    code, stdout, wrong = cli(*words, *kinds, "--out", tmp_path / "run", *QUICK, "training.epochs=15")
    assert code == 0, wrong
    assert "recall_at_1" in stdout
    model = sm.load(tmp_path / "run")
    assert model.recipe.model.tasks["retrieval"]["prompt"] == ["kind of thing"]  # type: ignore[index]
    assert model.schema.columns["kind of thing"].spec["kind"] == "key"
    scores = model.evaluate(table).targets["retrieval"]
    assert scores.metrics["recall_at_1"] > 0.9
    assert scores.baseline["recall_at_1"] == pytest.approx(0.2, abs=0.03), "the share of the rows of one key"
    code, _, wrong = cli("fit", table, "--task", "retrieval", "--between", "左,rigth", *kinds, "--ignore", "kind of thing")
    assert code == 2
    assert "did you mean right?" in wrong


def test_simple_methods_stand_beside_the_model_and_are_saved_with_it(tmp_path: Path) -> None:
    train = triples(tmp_path / "train.csv", 300, 0, whole=False)
    test = triples(tmp_path / "test.csv", 120, 1, whole=True)
    model = sm.fit(
        train,
        task="retrieval",
        options={"between": ["a", "b", "c"], "linear": "beside"},
        columns=dict.fromkeys("abc", "vector"),
        overrides=[*QUICK, "training.epochs=1", "training.refit=none"],
        quiet=True,
        out=tmp_path / "run",
    )
    beside = model.evaluate(test).targets["retrieval"].controls
    assert set(beside) == {LINEAR}
    assert beside[LINEAR].metrics["recall_at_1"] > 0.2, "chance is 0.01, and no training row has a and c"
    assert not beside[LINEAR].beaten
    again = sm.load(tmp_path / "run").evaluate(test).targets["retrieval"].controls
    assert again[LINEAR].metrics == beside[LINEAR].metrics


def ids(texts: list[str], pieces: tuple[str, ...]) -> Field:
    data = torch.zeros(len(texts), 12, dtype=torch.int64)
    for row, text in enumerate(texts):
        letters = [pieces.index(letter) for letter in text]
        data[row, : len(letters)] = torch.tensor(letters)
    present = torch.tensor([bool(text) for text in texts])
    return Field(data, present, data != 0)


def test_two_texts_are_compared_by_the_cosine_of_tf_idf() -> None:
    questions = ["red bus", "blue bus", "red car", "blue car", "red bus"]
    answers = ["a red bus", "blue bus", "red car", "a blue car", ""]
    # Each column has a vocabulary of its own.
    spellings = [("", *sorted(set("".join(texts)), reverse=bool(i))) for i, texts in enumerate((questions, answers))]
    streams = {name: Ids(len(pieces), 12, pieces=pieces) for name, pieces in zip("qa", spellings, strict=True)}
    fields = {"q": ids(questions, spellings[0]), "a": ids(answers, spellings[1])}
    batch = Batch(fields, {}, torch.ones(5), {})
    task = build("tasks", "retrieval", Goal("r", {}, {}, streams), 8)
    assert task.reference_outputs(task.constant(None, 5), batch) == {}, "nothing is fitted"
    assert task.fit_simple([batch], []) == ""
    output = task.constant(None, 5)
    matched = task.reference_outputs(output, batch)
    assert set(matched) == {LINEAR, TF_IDF}
    vectors = matched[TF_IDF].vectors
    cosine = vectors[:4, 0] @ vectors[:4, 1].T
    assert cosine.argmax(dim=1).tolist() == [0, 1, 2, 3]
    assert float(cosine[1, 1]) > 0.98, "the same words, with the frequencies of either column"
    assert not vectors[4, 1].any()
    without = build("tasks", {"kind": "retrieval", "linear": "none"}, Goal("r", {}, {}, streams), 8)
    assert without.fit_simple([batch], []) == ""
    assert without.reference_outputs(output, batch) == {}


def test_streams_without_ready_features_have_no_simple_method() -> None:
    task = build("tasks", "retrieval", Goal("r", {}, {}, {"a": Row((0,)), "molecule": Graph(3, 2, 4)}), 8)
    assert "molecule" in task.fit_simple([], [])


def test_a_side_that_is_read_as_a_table_column_is_named_with_its_cure() -> None:
    inputs = {"table": {"question": build("modalities", "category")}, "photo": {"photo": build("modalities", "image")}}
    asked = Goal("r", {}, {}, {"table": Row((3,)), "photo": Row((0,))}, inputs=inputs)
    with pytest.raises(ConfigError, match="'question' is read as category") as raised:
        build("tasks", {"kind": "retrieval", "between": ["question", "photo"]}, asked, 8)
    assert "--as question=text" in raised.value.fix


def test_the_linear_map_counts_in_answers_with_a_weight_from_held_out_rows(tmp_path: Path) -> None:
    train = triples(tmp_path / "train.csv", 200, 0, whole=True)
    model = sm.fit(
        train,
        task="retrieval",
        options={"between": ["a", "b"]},
        columns={"a": "vector", "b": "vector"},
        ignore=["c"],
        overrides=["model.size=tiny", "training.lr=1e-6", "training.epochs=1"],
        quiet=True,
        out=tmp_path / "run",
    )
    task = model.model.tasks["retrieval"]
    assert task.simple.weight > 0.5, "the network has learnt nothing"
    assert task.prepared_streams == ("a", "b")
    test = triples(tmp_path / "test.csv", 60, 1, whole=True)
    scores = model.evaluate(test).targets["retrieval"]
    assert set(scores.controls) == {"the network alone", LINEAR}
    assert scores.metrics["recall_at_1"] > scores.controls["the network alone"].metrics["recall_at_1"] + 0.2
    again = sm.load(tmp_path / "run").evaluate(test).targets["retrieval"]
    assert again.metrics == scores.metrics
    rows = list(sm.Table.read(test).rows())
    (row,) = model.predictor.side_vectors(rows[:1], "retrieval")
    assert row.vectors.norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)
    (lone,) = model.predictor.side_vectors([{"a": rows[0]["a"]}], "retrieval")
    assert torch.allclose(lone.vectors[0], row.vectors[0], atol=1e-6)
    assert not lone.vectors[1].any()


def test_a_weight_without_a_map_does_not_count() -> None:
    streams = {"a": Grid(3, (1,)), "b": Grid(3, (1,))}
    matcher = FeatureMatcher({"a": ["a"], "b": ["b"]}, streams)
    matcher.keep("share", torch.tensor([0.5]))
    assert matcher.weight == 0.0
    for i in range(2):
        matcher.keep(f"map_{i}", torch.zeros(3, 2))
    assert matcher.weight == 0.5
