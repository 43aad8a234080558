"""Late fusion: every stream its own answer, and the ways to make one answer of them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sensorium.core.batch import Batch, Encoded, Field
from sensorium.core.contracts import Fusion
from sensorium.core.errors import ConfigError
from sensorium.core.registry import build
from sensorium.core.task import EncodedRows, Task
from sensorium.heads.decision_fusion import TIE, merged_classes, merged_labels, merged_numbers
from sensorium.heads.late_heads import LateHeads, LateOutputs
from sensorium.heads.stacking import Stacker, learn_stacker, stacked
from sensorium.testing import samples
from sensorium.testing.fusions import littered
from sensorium.testing.general import perturbed, same
from sensorium.testing.tasks import goal_of

DIM = 8
STREAMS = ["photo", "note", "sound"]
SIZES = dict.fromkeys(STREAMS, 2)
KINDS = ("classification", "multilabel", "regression", "svm")
DECIDE = ("mean", "vote", "learned", "stacking")


def panel(kind: str, decide: str, streams: list[str] = STREAMS) -> tuple[Fusion, LateHeads, Field]:
    torch.manual_seed(0)
    fusion: Fusion = build("fusions", {"kind": "late", "decide": decide}, streams, DIM)
    goal, batch = goal_of(kind)
    task = fusion.answering(lambda: build("tasks", kind, goal, DIM))
    assert isinstance(task, LateHeads)
    target = task.target(batch)
    assert target is not None
    task.fit([target])
    return perturbed(fusion), perturbed(task), target


def parts_of(rows: int, seed: int = 0) -> tuple[dict[str, Encoded], Tensor]:
    draw = torch.Generator().manual_seed(seed)
    present = torch.rand(rows, 3, generator=draw) < 0.6
    present[0], present[1], present[2] = True, torch.tensor([False, True, False]), False
    return samples.streams(SIZES, DIM, present, seed=seed), present


@pytest.mark.parametrize("vote", [False, True])
def test_merged_decisions_are_what_the_rules_say(vote: bool) -> None:
    torch.manual_seed(0)
    outputs = 2 * torch.randn(40, 5, 3, dtype=torch.float64)
    present = torch.rand(40, 5) < 0.7
    present[:, 0] = True
    share = (present / present.sum(dim=1, keepdim=True)).double()
    classes = merged_classes(outputs, share, vote=vote).softmax(dim=1).numpy()
    labels = merged_labels(outputs, share, vote=vote, threshold=0.4).sigmoid().numpy()
    numbers = merged_numbers(outputs, share, vote=vote).numpy()
    for i in range(40):
        predicted = outputs[i, present[i]].numpy()
        chances = np.exp(predicted) / np.exp(predicted).sum(axis=1, keepdims=True)
        inputs = 1 / (1 + np.exp(-predicted))
        if vote:
            votes = np.bincount(chances.argmax(axis=1), minlength=3) / len(predicted)
            np.testing.assert_allclose(classes[i], (1 - TIE) * votes + TIE * chances.mean(axis=0), rtol=1e-9)
            want = (1 - TIE) * (inputs >= 0.4).mean(axis=0) + TIE * inputs.mean(axis=0)
            np.testing.assert_allclose(labels[i], want, rtol=1e-6)
            np.testing.assert_allclose(numbers[i], np.median(predicted, axis=0))
        else:
            np.testing.assert_allclose(classes[i], chances.mean(axis=0))
            np.testing.assert_allclose(labels[i], inputs.mean(axis=0))
            np.testing.assert_allclose(numbers[i], predicted.mean(axis=0))


def test_a_vote_is_won_by_votes_and_a_tie_by_the_surer() -> None:
    sure, unsure = torch.tensor([9.0, 0.0, 0.0]), torch.tensor([0.0, 0.1, 0.0])
    third = torch.full((1, 3), 1 / 3)
    assert merged_classes(torch.stack([sure, unsure, unsure])[None], third, vote=True).argmax() == 1
    assert merged_classes(torch.stack([sure, unsure, unsure])[None], third).argmax() == 0
    assert merged_classes(torch.stack([unsure, sure])[None], torch.full((1, 2), 0.5), vote=True).argmax() == 0
    wild = torch.tensor([[[1.0], [2.0], [1e6]]])
    assert merged_numbers(wild, third, vote=True).item() == 2.0


@pytest.mark.parametrize("decide", DECIDE)
@pytest.mark.parametrize("kind", KINDS)
def test_keeps_what_a_task_promises(kind: str, decide: str) -> None:
    fusion, task, target = panel(kind, decide)
    rows = target.present.shape[0]
    parts, present = parts_of(rows)
    fusion.eval()
    task.eval()
    with torch.no_grad():
        output = task(fusion(parts), parts, {})
        assert isinstance(output, Tensor), "in use it is the task's own output"
        assert bool(output.isfinite().all())
        some = present.any(dim=1)
        assert same(output[some], task(fusion(littered(parts)), littered(parts), {})[some]), (
            "what stands in absent rows matters"
        )
        assert task.loss(output, target).shape == (rows,)
        batch = Batch({}, dict.fromkeys(task.goal.targets, target), torch.ones(rows))
        answers = task.answers(output, batch)
        assert len(answers) == rows
        scorer = task.scorer()
        scorer.update(output, batch)
        assert task.headline in scorer.compute()
        head = task.heads["note"]
        alone = head(parts["note"], {"note": parts["note"]}, {})
        want, got = head.answers(alone, batch)[1], answers[1]
        if decide != "vote" or kind == "regression":
            one = head.scorer()
            one.update(alone, batch)
            assert same(scorer.kept["prediction"][1], one.kept["prediction"][1]), "one stream is its own model"
        assert want["value"] == pytest.approx(got["value"]) if kind == "regression" else want["value"] == got["value"]
        twin = copy.deepcopy(task)
        assert same(twin(fusion(parts), parts, {}), output)
    fusion.train()
    task.train()
    opinions = task(fusion(parts), parts, {})
    assert isinstance(opinions, LateOutputs)
    assert same(opinions.map(lambda t: t), opinions)
    task.loss(opinions, target)[some].sum().backward()
    for name, parameter in [*task.named_parameters(), *fusion.named_parameters()]:
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert bool(parameter.grad.any()), name


def test_in_training_every_head_learns_as_if_alone() -> None:
    for decide in DECIDE:
        fusion, task, target = panel("classification", decide)
        for head in task.heads.values():
            head.eval()  # no dropout, so that both ways see the same
        parts, present = parts_of(12)
        task.training = True
        task.loss(task(fusion(parts), parts, {}), target).sum().backward()  # type: ignore[no-untyped-call]
        _, twin, _ = panel("classification", decide)
        for i, (stream, head) in enumerate(twin.heads.items()):
            head.eval()
            part = parts[stream]
            (head.loss(head(part, {stream: part}, {}), target) * present[:, i] / 3).sum().backward()  # type: ignore[no-untyped-call]
            for name, parameter in head.named_parameters():
                got = task.heads[stream].get_parameter(name).grad
                assert got is not None
                torch.testing.assert_close(got, parameter.grad)


def test_learned_weights_follow_the_useful_stream() -> None:
    torch.manual_seed(0)
    fusion: Fusion = build("fusions", {"kind": "late", "decide": "learned"}, ["signal", "noise"], 4)
    goal, _ = goal_of("classification")
    task = fusion.answering(lambda: build("tasks", "classification", goal, 4))
    step = torch.optim.Adam([*fusion.parameters(), *task.parameters()], lr=0.05)
    present = torch.ones(64, dtype=torch.bool)
    parts: dict[str, Encoded] = {}
    for _ in range(80):
        label = torch.randint(0, 2, (64, 1))
        both = {"signal": torch.randn(64, 4) + 2.0 * label, "noise": torch.randn(64, 4)}
        parts = {s: Encoded(x[:, None], present[:, None], x, present) for s, x in both.items()}
        loss = task.loss(task(fusion(parts), parts, {}), Field(label, present)).mean()
        step.zero_grad()
        loss.backward()
        step.step()
    assert isinstance(task, LateHeads)
    assert fusion.weights(parts)["share"][0, 0] > 0.7
    assert task.coefficients()["signal"] == pytest.approx(fusion.weights(parts)["share"][0, 0].item())


# ── stacking ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def experts(rows: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Log-chances, who is there, truth. The first expert tells 0 from the rest, the second 1 from 2, the third guesses."""
    draw = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, 3, (rows,), generator=draw)
    noise = torch.randn(rows, 3, 3, generator=draw)
    logits = 0.5 * noise
    logits[:, 0, 0] += 3.0 * (truth == 0) - 1.5
    logits[:, 1, 1] += 3.0 * (truth == 1) - 1.5 * (truth != 0)
    logits[:, 2] = 2.5 * noise[:, 2]
    present = torch.rand(rows, 3, generator=draw) < 0.8
    return logits.log_softmax(dim=2), present, truth


def test_the_stacker_is_its_equation() -> None:
    torch.manual_seed(0)
    stacker = perturbed(Stacker(3, 4))
    for buffer in (stacker.score, stacker.sharpness, stacker.offset):
        buffer.copy_(torch.randn(buffer.shape))
    predicted, present = torch.randn(20, 3, 4), torch.rand(20, 3) < 0.6
    present[:, 0] = True
    out = stacker(predicted, present).double().numpy()
    for i in range(20):
        columns = present[i].nonzero().squeeze(1).tolist()
        alpha = np.exp(stacker.score[columns].double().numpy())
        alpha /= alpha.sum(axis=0)
        z = (alpha * predicted[i, columns].double().numpy()).sum(axis=0)
        if len(columns) > 1:
            z = np.exp(float(stacker.sharpness[len(columns) - 2])) * z + stacker.offset[len(columns) - 2].double().numpy()
        np.testing.assert_allclose(out[i], z, rtol=1e-5, atol=1e-6)
        if len(columns) == 1:
            np.testing.assert_array_equal(out[i], predicted[i, columns[0]].double().numpy())


def test_stacking_beats_the_mean_on_rows_it_has_not_seen() -> None:
    predicted, present, truth = experts(400, 0)
    stacker = Stacker(3, 3)

    def loss(output: Tensor, target: Field) -> Tensor:
        return torch.nn.functional.cross_entropy(output, target.data[:, 0], reduction="none")

    everyone = torch.ones(400, dtype=torch.bool)
    learn_stacker(stacker, (predicted, present), Field(truth[:, None], everyone), torch.ones(400), loss)
    predicted, present, truth = experts(2000, 1)
    present[:, 0] |= ~present.any(dim=1)
    share = present / present.sum(dim=1, keepdim=True)
    target = Field(truth[:, None], torch.ones(2000, dtype=torch.bool))
    mean, stack = merged_classes(predicted, share), stacker(predicted, present)
    assert float(loss(stack, target).mean()) < 0.9 * float(loss(mean, target).mean())
    assert float((stack.argmax(1) == truth).float().mean()) > float((mean.argmax(1) == truth).float().mean())


def test_stacking_finds_the_optimum() -> None:
    """The gradient of the whole objective, ridge included, is nothing where the search stopped."""
    predicted, present, truth = experts(60, 2)
    target = Field(truth[:, None], torch.ones(60, dtype=torch.bool))
    stacker = Stacker(3, 3)

    def loss(output: Tensor, field: Field) -> Tensor:
        return torch.nn.functional.cross_entropy(output, field.data[:, 0], reduction="none")

    learn_stacker(stacker, (predicted, present), target, torch.ones(60), loss)
    results = [t.double().requires_grad_() for t in (stacker.score, stacker.sharpness, stacker.offset)]
    total = sum(t.square().sum() for t in results)
    subsets = [[True, True, False], [True, False, True], [False, True, True], [True, True, True]]
    for subset in subsets:
        part = present & torch.tensor(subset)
        total = total + (loss(stacked(predicted.double(), part, *results), target) * (part.sum(1) > 1)).sum() / len(subsets)
    for gradient in torch.autograd.grad(total, results):
        assert float(gradient.abs().max()) < 1e-2


def test_nothing_to_stack_leaves_the_mean() -> None:
    stacker = Stacker(2, 1)
    one = torch.ones(5, dtype=torch.bool)
    only = torch.tensor([[True, False]]).expand(5, -1)

    def loss(output: Tensor, field: Field) -> Tensor:
        return (output - field.data).square()[:, 0]

    learn_stacker(stacker, (torch.randn(5, 2, 1), only), Field(torch.randn(5, 1), one), torch.ones(5), loss)
    assert not any(bool(t.any()) for t in (stacker.score, stacker.sharpness, stacker.offset))


def test_a_sum_of_parts_is_learnt_by_stacking() -> None:
    """Each stream knows one summand: the mean of what they say is half the answer, and stacking finds the double."""
    torch.manual_seed(0)
    predicted = torch.randn(500, 2, 1)
    target = Field(predicted.sum(dim=1), torch.ones(500, dtype=torch.bool))
    stacker, both = Stacker(2, 1), torch.ones(500, 2, dtype=torch.bool)
    learn_stacker(stacker, (predicted, both), target, torch.ones(500), lambda o, f: (o - f.data).square()[:, 0])
    torch.testing.assert_close(stacker(predicted, both), target.data, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_settling_learns_from_held_out_rows(kind: str) -> None:
    fusion, task, target = panel(kind, "stacking")
    assert task.fits_after_training
    # A support vector machine is itself learnt after training, however the decisions are then merged.
    assert panel(kind, "mean")[1].fits_after_training == (kind == "svm")
    task.eval()
    parts, _ = parts_of(target.present.shape[0])
    with torch.no_grad():
        fused = fusion(parts)
        before = task(fused, parts, {})
        seen = EncodedRows(fused, parts, target, torch.ones(len(target.present)))
        task.fit_after_training(seen, seen)
        after = task(fused, parts, {})
    assert not same(before, after)
    assert list(task.coefficients()) == STREAMS
    assert sum(task.coefficients().values()) == pytest.approx(1)
    assert max(task.coefficients().values()) > 0.334
    assert kind == "svm" or same(before[1], after[1]), "a row with one stream is answered by it, stacked or not"
    _, twin, _ = panel(kind, "stacking")
    twin.load_state_dict(task.state_dict())
    with torch.no_grad():
        assert same(twin.eval()(fused, parts, {}), after)


def test_a_task_without_votes_is_not_asked_to_vote() -> None:
    from sensorium.tasks.regression import Regression

    class Dumb(Regression):
        merge = Task.merge  # type: ignore[assignment]

    goal, _ = goal_of("regression")
    fusion: Fusion = build("fusions", {"kind": "late", "decide": "vote"}, STREAMS, DIM)
    with pytest.raises(ConfigError, match="no votes"):
        fusion.answering(lambda: Dumb(goal, DIM))
    mean: Fusion = build("fusions", "late", STREAMS, DIM)
    task: Any = mean.answering(lambda: Dumb(goal, DIM)).eval()
    parts, present = parts_of(6)
    each = torch.stack([task.heads[s](parts[s], parts, {}) for s in STREAMS], dim=1)
    want = (each * present[..., None]).sum(dim=1) / present.sum(dim=1, keepdim=True)
    torch.testing.assert_close(task(mean(parts), parts, {})[:2], want[:2])


def test_groups_answer_together_where_late_is_the_outer_fusion() -> None:
    groups = {"near": {"streams": ["photo", "sound"], "fusion": "gated"}}
    fusion: Fusion = build("fusions", {"kind": "compose", "groups": groups, "fusion": "late"}, STREAMS, DIM)
    goal, _ = goal_of("classification")
    task = fusion.answering(lambda: build("tasks", "classification", goal, DIM))
    assert isinstance(task, LateHeads)
    assert list(task.heads) == ["near", "note"]
    task.eval()
    parts, present = parts_of(8)
    with torch.no_grad():
        output = task(fusion(parts), parts, {})
        inner = fusion.inner["near"](parts)  # type: ignore[index, operator]
        predicted = torch.stack([task.heads["near"](inner, {}, {}), task.heads["note"](parts["note"], {}, {})], dim=1)
        presence = torch.stack([inner.present, present[:, 1]], dim=1)
        share = presence / presence.sum(dim=1, keepdim=True).clamp(min=1)
        torch.testing.assert_close(output[:2], merged_classes(predicted, share)[:2])
    stacking = {"kind": "compose", "groups": groups, "fusion": {"kind": "late", "decide": "stacking"}}
    with pytest.raises(ConfigError, match="stacking"):
        build("fusions", stacking, STREAMS, DIM).answering(lambda: build("tasks", "classification", goal, DIM))
