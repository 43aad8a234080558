"""Survival analysis: time to an event, with censored rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from sensorium.core.answer import Answer
from sensorium.core.batch import Batch, Encoded, Field
from sensorium.core.errors import ConfigError, listed
from sensorium.core.expert import Response
from sensorium.core.goal import Goal
from sensorium.core.registry import component
from sensorium.core.report_views import View
from sensorium.core.scorer import Scorer
from sensorium.core.task import EncodedRows, Task
from sensorium.heads.survival_views import GROUPS, survival_views
from sensorium.metrics.pair_scorer import PairScorer
from sensorium.metrics.survival import brier_over_time, c_index, calibration_at, uno_c_index
from sensorium.nn.survival_likelihood import breslow, hazard_loss, intervals, lived, partial_loss

HAPPENED = (
    "1",
    "true",
    "yes",
    "y",
    "event",
    "dead",
    "died",
    "death",
    "deceased",
    "relapse",
    "failed",
    "failure",
    "default",
)
"""Classes of the event column recognised as the event, ignoring case."""
EVENTS = 30
"""Minimum number of held-out events for the baseline hazard; with fewer, training rows are added."""
LEVEL = 1.0
"""Weight of the penalty on the mean score of a batch."""
SHOWN = 12
"""Number of times at which a prediction gives the survival curve."""


@component
class Survival(Task[Tensor]):
    """Survival analysis: time to an event such as death, relapse, failure or default, with right-censored rows.

    The target is two columns: ``time``, a non-negative number, and ``event``, whether the event happened then (``--task
    survival --time days --event died``). ``cox`` is a proportional hazards model whose baseline hazard is estimated from
    the held-out rows. ``discrete`` learns the hazard of every interval, so that curves may cross; it needs more rows. With
    a ``prompt`` column (a hospital, a machine model), ``cox`` is stratified: rows are compared within their stratum, each
    with its own baseline hazard.

    The prediction is the mean time to the event, restricted to the last known time, with the median, the hazard ratio to
    an average row, the risk group and the survival curve. ``c_index`` is the share of pairs of rows in the right order;
    ``brier`` the squared error of the curves over time.

    Output: ``cox`` the log hazard ``[B, 1]``, with strata ``[B, 2]`` including the stratum's index; ``discrete`` logits of
    the hazards ``[B, steps]``. Target: standardised time and event indicator ``[B, 2]``.
    Sources: Cox 1972, https://doi.org/10.1111/j.2517-6161.1972.tb00899.x; Katzman et al. 2018 (DeepSurv),
    https://doi.org/10.1186/s12874-018-0482-1; Gensheimer & Narasimhan 2019, https://doi.org/10.7717/peerj.6257.

    Args:
        hidden: Width of a hidden layer before the output; 0 for none.
        dropout: Dropout rate before the last layer.
        model: ``cox`` for proportional hazards, ``discrete`` for the hazard of each interval.
        steps: Number of times at which curves are evaluated (or of intervals), at quantiles of the event times.
        happened: The class of the event column that marks an event; none: recognised by name.
    """

    predicts: ClassVar[tuple[str, ...]] = ("number", "category")
    parts: ClassVar[tuple[str, ...]] = ("time", "event")
    # Only the order of times matters, and 0 has no logarithm.
    target_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {"number": {"scale": "standard", "least": 0.0}}
    headline: ClassVar[str] = "c_index"
    baseline_name: ClassVar[str] = "predicting the same curve for all rows"
    per_row: ClassVar[bool] = False

    def __init__(
        self,
        goal: Goal,
        dim: int,
        *,
        hidden: int = 0,
        dropout: float = 0.1,
        model: Literal["cox", "discrete"] = "cox",
        steps: int = 40,
        happened: str | None = None,
    ) -> None:
        super().__init__(goal, dim)
        if steps < 2:
            raise ValueError("steps must be at least 2")
        self.cox, self.steps = model == "cox", steps
        self.time, self.event = list(goal.targets)
        if goal.targets[self.time].single:
            raise ConfigError(
                f"task {goal.name!r}: the time must be a number, but this column holds classes",
                column=self.time,
                fix=f"--as {self.time}=number, or name it: --time COLUMN --event COLUMN",
            )
        self.happened = self._happened(happened)
        self.strata: list[str] = []
        if goal.prompts:
            if not self.cox or len(goal.prompts) > 1 or not next(iter(goal.prompts.values())).single:
                raise ConfigError(
                    f"task {goal.name!r}: the prompt of survival must be a single categorical column (the strata), and "
                    "only model: cox supports it",
                    fix="leave the prompt out, or --as COLUMN=category",
                )
            self.strata = list(next(iter(goal.prompts.values())).classes)
        body = [nn.Linear(dim, hidden), nn.GELU()] if hidden else []
        # A bias has no effect in a Cox model.
        self.last = nn.Linear(hidden or dim, 1 if self.cox else steps, bias=not self.cox)
        self.body = nn.Sequential(*body, nn.Dropout(dropout))
        self.grid: Tensor
        self.hazard: Tensor
        self.thirds: Tensor
        self.centre: Tensor
        self.register_buffer("grid", torch.linspace(0, 1, steps))
        self.register_buffer("hazard", torch.linspace(0, 1, steps).expand(len(self.strata) + 1, -1).clone())
        self.register_buffer("thirds", torch.zeros(2))
        self.register_buffer("centre", torch.zeros(()))

    def _happened(self, requested: str | None) -> int | None:
        """The index of the class that marks an event; None for numeric columns, where values above 0 do."""
        modality = self.goal.targets[self.event]
        if not modality.single:
            if requested is not None:
                raise ConfigError(
                    "the column holds numbers, where values above 0 mark an event", column=self.event, fix="omit --happened"
                )
            return None
        classes = list(modality.classes)
        explicit = requested is not None
        matches = [i for i, name in enumerate(classes) if (name == requested if explicit else name.lower() in HAPPENED)]
        if len(matches) != 1 or (not explicit and len(classes) > 2):
            raise ConfigError(
                f"task {self.goal.name!r}: "
                + (f"{requested!r} is no class" if explicit else "cannot tell which class marks the event")
                + f"; the classes are: {listed(classes)}",
                column=self.event,
                fix=f"--happened {classes[-1]!r}",
            )
        return matches[0]

    # ── before and after training ──────────────────────────────────────────────────────────────────────────────────────

    def target(self, batch: Batch) -> Field | None:
        field = super().target(batch)
        if field is None:
            return None
        coded = field.data[:, 1]
        if self.happened is not None:
            event = coded == self.happened
        else:
            event = torch.tensor([value > 0 for value in self._read(self.event, coded)], device=coded.device)
        return Field(torch.stack([field.data[:, 0].float(), event.float()], dim=1), field.present)

    def _read(self, column: str, values: Tensor) -> list[float]:
        """Standardised numbers on the original scale."""
        decode = self.goal.targets[column].decode
        return [float(decode(np.array([value]))) for value in values.detach().float().nan_to_num(0.0).cpu().tolist()]

    @property
    def answer_columns(self) -> Mapping[str, tuple[str, ...]]:
        return {key: (key,) for key in ("median", "hazard_ratio", "group")}

    @property
    def times(self) -> Tensor:
        """The times at which curves are evaluated ``[steps]``, in the unit of the table; float64 on the CPU."""
        return torch.tensor(self._read(self.time, self.grid), dtype=torch.float64)

    def fit(self, targets: Iterable[Field]) -> None:
        """Choose the times of the curves from ``targets`` and initialise the hazard with that of all rows."""
        known = _known(targets)
        if not len(known):
            return
        if min(self._read(self.time, known[:, 0].min()[None])) < 0:
            raise ConfigError("negative times", column=self.time, fix="measure the time from the start of observation")
        event = known[:, 1] > 0.5
        if not bool(event.any()):
            return
        died = known[event, 0]
        # Every interval ends at the time of an event, the last one at the last event.
        at = torch.linspace(0, 1, self.steps + 1, dtype=torch.float64)[1:]
        self.grid.copy_(died.double().quantile(at, interpolation="higher"))
        zeros = torch.zeros(len(known))
        whole = breslow(zeros, known[:, 0], event, torch.ones(len(known)), self.grid)
        self.hazard.copy_(whole.expand_as(self.hazard))
        if not self.cox:
            with torch.no_grad():
                self.last.bias.copy_(_logits(whole, self.grid))

    def fit_after_training(self, training: EncodedRows, held_out: EncodedRows) -> None:
        if not self.cox:
            return
        rows = [held_out] if self._enough(held_out) else [held_out, training]
        with torch.no_grad():
            output = torch.cat([self(part.fused, part.streams, part.prompts) for part in rows])
        target = Field(torch.cat([part.target.data for part in rows]), torch.cat([part.target.present for part in rows]))
        self.correct(output, target, torch.cat([part.weight for part in rows]))

    def _enough(self, rows: EncodedRows) -> bool:
        """Whether there are enough events for the baseline hazard of every stratum."""
        known = rows.target.present & (rows.target.data[:, 1] > 0.5)
        if not self.strata:
            return int(known.sum()) >= EVENTS
        code = next(iter(rows.prompts.values())).data[known, 0]
        return all(int((code == i + 1).sum()) >= EVENTS for i in range(len(self.strata)))

    @property
    def fits_after_training(self) -> bool:
        return self.cox

    @torch.no_grad()
    def correct(self, output: Tensor, target: Field, weight: Tensor) -> None:
        """Estimate the baseline hazard of each stratum (Breslow) and the terciles of risk from held-out rows.

        Args:
            output: The outputs of the rows.
            target: Their targets.
            weight: Their weights ``[B]``.
        """
        known = target.present & (weight > 0)
        if not self.cox or not bool((target.data[known, 1] > 0.5).any()):
            return
        score, time, event = output[known, 0], target.data[known, 0], target.data[known, 1] > 0.5
        whole = breslow(score, time, event, weight[known], self.grid)
        self.hazard.copy_(whole.expand_as(self.hazard))
        for i in range(len(self.strata)):
            own = output[known, 1].long() == i
            if int(event[own].sum()) >= EVENTS:  # with fewer events the pooled baseline is more reliable
                self.hazard[i].copy_(breslow(score[own], time[own], event[own], weight[known][own], self.grid))
        self.thirds.copy_(score.double().quantile(score.new_tensor([1 / 3, 2 / 3]).double()))
        self.centre.copy_(score.mean())

    # ── model ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def forward(self, fused: Encoded, streams: Mapping[str, Encoded], prompts: Mapping[str, Field]) -> Tensor:
        output: Tensor = self.last(self.body(fused.pooled))
        if not self.strata:
            return output
        # Coded from 1; missing or unknown values form a stratum of their own, the last.
        stratum = next(iter(prompts.values())) if prompts else None
        number = output.new_full((len(output),), len(self.strata))
        if stratum is not None:
            code = stratum.data[:, 0].nan_to_num(0.0)
            number = torch.where(stratum.present & (code > 0), code - 1, number)
        return torch.cat([output, number[:, None].to(output)], dim=1)

    def loss(self, output: Tensor, target: Field) -> Tensor:
        presence = target.present.nonzero()[:, 0]
        out = output.new_zeros(len(output))
        if not len(presence):
            return out + 0.0 * output[:, 0]
        known, time = output[presence], target.data[presence, 0]
        event = target.data[presence, 1] > 0.5
        if self.cox:
            each = partial_loss(known[:, 0], time, event, None, known[:, 1].long() if self.strata else None)
            # The partial likelihood ignores the level of scores; it is kept at 0, the score of rows without any input.
            each = each + LEVEL * known[:, 0].mean().square()
        else:
            each = hazard_loss(known, time, event, self.grid)
        return out.index_copy(0, presence, each.to(out))

    @property
    def response(self) -> Response | None:
        return Response("risk", 1) if self.cox and not self.strata else None

    def scale_confidence(self, output: Tensor, factor: Tensor) -> Tensor:
        return output * factor if self.cox and not self.strata else output

    def curves(self, output: Tensor) -> Tensor:
        """Return the survival probability of ``output`` at each of ``times`` ``[B, steps]``, with gradients."""
        if not self.cox:
            return lived(output, self.grid)
        hazard = self.hazard[output[:, 1].long().clamp(0, len(self.strata))] if self.strata else self.hazard[:1]
        return (-hazard * output[:, :1].clamp(-60, 60).exp()).exp()

    def _mean_time(self, curves: Tensor) -> Tensor:
        """The restricted mean survival time: the area under each curve up to the last time ``[B]``, float64."""
        times = torch.cat([torch.zeros(1, dtype=torch.float64), self.times])
        return torch.trapezoid(torch.cat([curves.new_ones(len(curves), 1), curves], dim=1).double().cpu(), times, dim=1)

    def compare(self, output: Tensor, target: Field) -> tuple[Tensor, Tensor]:
        """Return risk and curve ``[B, 1 + steps]`` of ``output``, and time and event ``[B, 2]`` of ``target``.

        Both are float64, with times in the unit of the table.
        """
        curves = self.curves(output)
        risk = output[:, 0].double().cpu() if self.cox else -self._mean_time(curves)
        read = torch.tensor(self._read(self.time, target.data[:, 0]), dtype=torch.float64)
        truth = torch.stack([read, target.data[:, 1].double().nan_to_num(0.0).cpu()], dim=1)
        return torch.cat([risk[:, None], curves.double().cpu()], dim=1), truth

    def scorer(self) -> Scorer[Tensor]:
        times = self.times
        each = {
            "c_index": c_index,
            "uno_c_index": uno_c_index,
            "brier": brier_over_time(times),
            "calibration_error": calibration_at(times, self.steps // 2),
        }
        return PairScorer(self, self.compare, each)

    def answers(self, output: Tensor, batch: Batch) -> list[Answer]:
        curves = self.curves(output).detach().cpu()
        times = self.times.tolist()
        shown = sorted({round(i) for i in np.linspace(0, self.steps - 1, SHOWN)})
        group = (
            torch.bucketize(output[:, 0].detach().contiguous(), self.thirds).cpu().tolist()
            if self.cox
            else [None] * len(curves)
        )
        ratio = (output[:, 0].detach() - self.centre).clamp(-60, 60).exp().tolist() if self.cox else [None] * len(curves)
        answers: list[Answer] = []
        for row, (curve, mean) in enumerate(zip(curves.tolist(), self._mean_time(curves).tolist(), strict=True)):
            median = next((time for time, share in zip(times, curve, strict=True) if share <= 0.5), None)
            one: Answer = {"value": mean, "median": median}
            if self.cox:
                one |= {"hazard_ratio": ratio[row], "group": GROUPS[int(group[row] or 0)]}
            one["survival"] = {"time": [times[i] for i in shown], "chance": [curve[i] for i in shown]}
            answers.append(one)
        return answers

    def truths(self, batch: Batch) -> list[Any]:
        field = self.target(batch)
        if field is None:
            return [None] * batch.rows
        read = self._read(self.time, field.data[:, 0])
        return [
            {"time": time, "event": event > 0.5} if presence else None
            for time, event, presence in zip(read, field.data[:, 1].tolist(), field.present.tolist(), strict=True)
        ]

    # ── explanation and reporting ──────────────────────────────────────────────────────────────────────────────────────

    def explained(self, output: Tensor, of: Tensor) -> Tensor:
        return 1 - self.curves(output)[:, self.steps // 2]

    def question(self, of: Tensor) -> list[str]:
        return [f"probability of the event by {self.time} {float(self.times[self.steps // 2]):.4g}"] * of.shape[0]

    def views(self, scorer: Scorer[Tensor]) -> list[View]:
        if not isinstance(scorer, PairScorer) or scorer.rows == 0:
            return []
        return survival_views(scorer.prediction, scorer.truth, self.times, self.time)

    def baseline(self, targets: Iterable[Field]) -> list[float]:
        """Return the logit hazard of every interval over all ``targets``; for ``cox`` the score of an average row."""
        if self.cox:
            return [0.0] * (2 if self.strata else 1)
        known = _known(targets)
        whole = breslow(torch.zeros(len(known)), known[:, 0], known[:, 1] > 0.5, torch.ones(len(known)), self.grid)
        logits: list[float] = _logits(whole, self.grid).tolist()
        return logits

    def constant(self, baseline: list[float], rows: int) -> Tensor:
        return torch.tensor(baseline).expand(rows, -1)


def _known(targets: Iterable[Field]) -> Tensor:
    """The known times and events ``[rows, 2]``."""
    parts = [part.data[part.present] for part in targets]
    return torch.cat(parts).float() if parts else torch.zeros(0, 2)


def _logits(hazard: Tensor, grid: Tensor) -> Tensor:
    """The logit hazard of each interval ``[K]``, float32, from cumulative hazards ``[K]``; 0 for empty intervals."""
    share = 1 - (-torch.diff(hazard, prepend=hazard.new_zeros(1))).exp()
    return torch.where(intervals(grid), share.clamp(1e-4, 1 - 1e-4).logit(), 0.0).float()
