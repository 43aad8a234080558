"""When something happens, where some rows are only watched for a while."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from sensorium.core.answer import Answer
from sensorium.core.batch import Batch, Encoded, Field
from sensorium.core.contracts import Seen, Task
from sensorium.core.errors import ConfigError, listed
from sensorium.core.expert import Response
from sensorium.core.goal import Goal
from sensorium.core.registry import component
from sensorium.core.scorer import Scorer
from sensorium.core.views import View
from sensorium.heads.survival_views import GROUPS, survival_views
from sensorium.metrics.pair_scorer import Pairs
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
"""Classes of the event column that say so by themselves, whatever their case."""
EVENTS = 30
"""Fewer held-out events say too little of the baseline hazard: training rows are added to them."""
LEVEL = 1.0
"""How strongly the mean score of a batch is drawn to 0."""
SHOWN = 12
"""Times at which an answer gives the curve."""


@component
class Survival(Task[Tensor]):
    """How long until something happens: death, relapse, failure, default. Rows that were only watched for a while count.

    The target is two columns: ``time``, a number not below 0, and ``event``, whether it happened then (``--task survival
    --time days --event died``). ``cox`` learns how much sooner than others a row has its event, and how the chance to go
    on falls over time from the held-out rows; a row's curve has the same shape as any other's. ``discrete`` learns the
    hazard of every interval, so that curves may cross; it wants more rows. With a ``prompt`` column (a hospital, a model
    of machine) of ``cox`` rows are compared with those of their own only, and each has a baseline of its own (strata).

    The answer is the mean time to the event up to the last time that is known; with it come the median, the hazard ratio
    to a middling row, the risk group and the curve. ``c_index`` is the share of pairs of rows put in the right order;
    ``brier`` the squared error of the curves over time.

    Output: ``cox`` the log hazard ``[B, 1]``, with strata ``[B, 2]`` and the number of the stratum; ``discrete`` logits of
    the hazards ``[B, steps]``. Target: time, standardised, and 1 or 0 ``[B, 2]``.
    Sources: Cox 1972, https://doi.org/10.1111/j.2517-6161.1972.tb00899.x; Katzman et al. 2018 (DeepSurv),
    https://doi.org/10.1186/s12874-018-0482-1; Gensheimer & Narasimhan 2019, https://doi.org/10.7717/peerj.6257.

    Args:
        hidden: Width of a hidden layer before the output; 0 for none.
        dropout: Part of the features dropped in training, before the last layer.
        model: ``cox`` for proportional hazards, ``discrete`` for a hazard of each interval.
        steps: At how many times curves are known, spread so that as many events lie between any two; the intervals.
        happened: The class of the event column that says that it happened; none: found where it is plain.
    """

    predicts: ClassVar[tuple[str, ...]] = ("number", "category")
    parts: ClassVar[tuple[str, ...]] = ("time", "event")
    # Only the order of times counts, and 0 has no logarithm.
    asks: ClassVar[Mapping[str, Mapping[str, Any]]] = {"number": {"scale": "standard"}}
    headline: ClassVar[str] = "c_index"
    nothing: ClassVar[str] = "one curve for all rows"
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
                f"task {goal.name!r}: the time is a number, and this column holds classes",
                column=self.time,
                fix=f"--as {self.time}=number, or name it: --time COLUMN --event COLUMN",
            )
        self.happened = self._happened(happened)
        self.strata: list[str] = []
        if goal.prompts:
            if not self.cox or len(goal.prompts) > 1 or not next(iter(goal.prompts.values())).single:
                raise ConfigError(
                    f"task {goal.name!r}: the prompt of survival is one column of classes, whose rows are compared with "
                    "their own only, and cox alone has it",
                    fix="leave the prompt out, or --as COLUMN=category",
                )
            self.strata = list(next(iter(goal.prompts.values())).classes)
        body = [nn.Linear(dim, hidden), nn.GELU()] if hidden else []
        # A constant says nothing where only the order counts.
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

    def _happened(self, told: str | None) -> int | None:
        """The index of the class that says that it happened; None where the column holds numbers, and those above 0 do."""
        modality = self.goal.targets[self.event]
        if not modality.single:
            if told is not None:
                raise ConfigError("the column holds numbers: above 0 it happened", column=self.event, fix="no --happened")
            return None
        classes = list(modality.classes)
        found = [i for i, name in enumerate(classes) if (name == told if told is not None else name.lower() in HAPPENED)]
        if len(found) != 1 or (told is None and len(classes) > 2):
            raise ConfigError(
                f"task {self.goal.name!r}: which class says that the event happened? There are: {listed(classes)}",
                column=self.event,
                fix=f"--happened {classes[-1]!r}",
            )
        return found[0]

    # ── before and after training ──────────────────────────────────────────────────────────────────────────────────────

    def target(self, batch: Batch) -> Field | None:
        field = super().target(batch)
        if field is None:
            return None
        told = field.data[:, 1]
        if self.happened is not None:
            event = told == self.happened
        else:
            event = torch.tensor([value > 0 for value in self._read(self.event, told)], device=told.device)
        return Field(torch.stack([field.data[:, 0].float(), event.float()], dim=1), field.present)

    def _read(self, column: str, values: Tensor) -> list[float]:
        """Standardised numbers as the table's own."""
        decode = self.goal.targets[column].decode
        return [float(decode(np.array([value]))) for value in values.detach().float().nan_to_num(0.0).cpu().tolist()]

    @property
    def times(self) -> Tensor:
        """The times at which curves are known ``[steps]``, in the table's own unit; float64 on the CPU."""
        return torch.tensor(self._read(self.time, self.grid), dtype=torch.float64)

    def fit(self, targets: Iterable[Field]) -> None:
        """Learn at which times curves are to be known, and the curve of all rows."""
        known = _known(targets)
        if not len(known):
            return
        if min(self._read(self.time, known[:, 0].min()[None])) < 0:
            raise ConfigError("times lie below 0", column=self.time, fix="count the time from when a row is first watched")
        event = known[:, 1] > 0.5
        if not bool(event.any()):
            return
        died = known[event, 0]
        # An end of every interval is the time of an event, and the last is the last one's.
        at = torch.linspace(0, 1, self.steps + 1, dtype=torch.float64)[1:]
        self.grid.copy_(died.double().quantile(at, interpolation="higher"))
        zeros = torch.zeros(len(known))
        whole = breslow(zeros, known[:, 0], event, torch.ones(len(known)), self.grid)
        self.hazard.copy_(whole.expand_as(self.hazard))
        if not self.cox:
            with torch.no_grad():
                self.last.bias.copy_(_logits(whole, self.grid))

    def settle(self, training: Seen, held_out: Seen) -> None:
        if not self.cox:
            return
        rows = [held_out] if self._enough(held_out) else [held_out, training]
        with torch.no_grad():
            output = torch.cat([self(part.fused, part.streams, part.prompts) for part in rows])
        target = Field(torch.cat([part.target.data for part in rows]), torch.cat([part.target.present for part in rows]))
        self.correct(output, target, torch.cat([part.weight for part in rows]))

    def _enough(self, rows: Seen) -> bool:
        """Whether there are events enough for the baseline hazard of every stratum."""
        known = rows.target.present & (rows.target.data[:, 1] > 0.5)
        if not self.strata:
            return int(known.sum()) >= EVENTS
        code = next(iter(rows.prompts.values())).data[known, 0]
        return all(int((code == i + 1).sum()) >= EVENTS for i in range(len(self.strata)))

    @property
    def settles(self) -> bool:
        return self.cox

    @torch.no_grad()
    def correct(self, output: Tensor, target: Field, weight: Tensor) -> None:
        """The baseline hazard of each stratum, by Breslow, and where low, middling and high risks part."""
        known = target.present & (weight > 0)
        if not self.cox or not bool((target.data[known, 1] > 0.5).any()):
            return
        score, time, event = output[known, 0], target.data[known, 0], target.data[known, 1] > 0.5
        whole = breslow(score, time, event, weight[known], self.grid)
        self.hazard.copy_(whole.expand_as(self.hazard))
        for i in range(len(self.strata)):
            own = output[known, 1].long() == i
            if int(event[own].sum()) >= EVENTS:  # of fewer the baseline of all is the better guess
                self.hazard[i].copy_(breslow(score[own], time[own], event[own], weight[known][own], self.grid))
        self.thirds.copy_(score.double().quantile(score.new_tensor([1 / 3, 2 / 3]).double()))
        self.centre.copy_(score.mean())

    # ── the road ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def forward(self, fused: Encoded, streams: Mapping[str, Encoded], prompts: Mapping[str, Field]) -> Tensor:
        output: Tensor = self.last(self.body(fused.pooled))
        if not self.strata:
            return output
        # Coded from 1; what is missing or unknown is a stratum of its own, the last.
        asked = next(iter(prompts.values())) if prompts else None
        number = output.new_full((len(output),), len(self.strata))
        if asked is not None:
            code = asked.data[:, 0].nan_to_num(0.0)
            number = torch.where(asked.present & (code > 0), code - 1, number)
        return torch.cat([output, number[:, None].to(output)], dim=1)

    def loss(self, output: Tensor, target: Field) -> Tensor:
        here = target.present.nonzero()[:, 0]
        out = output.new_zeros(len(output))
        if not len(here):
            return out + 0.0 * output[:, 0]
        known, time = output[here], target.data[here, 0]
        event = target.data[here, 1] > 0.5
        if self.cox:
            each = partial_loss(known[:, 0], time, event, None, known[:, 1].long() if self.strata else None)
            # The order of scores is all that counts; their level is kept at 0, where rows of which nothing is known lie.
            each = each + LEVEL * known[:, 0].mean().square()
        else:
            each = hazard_loss(known, time, event, self.grid)
        return out.index_copy(0, here, each.to(out))

    @property
    def response(self) -> Response | None:
        return Response("risk", 1) if self.cox and not self.strata else None

    def surer(self, output: Tensor, factor: Tensor) -> Tensor:
        return output * factor if self.cox and not self.strata else output

    def curves(self, output: Tensor) -> Tensor:
        """The chance that the event is still to come at each of ``times`` ``[B, steps]``, with gradients."""
        if not self.cox:
            return lived(output, self.grid)
        hazard = self.hazard[output[:, 1].long().clamp(0, len(self.strata))] if self.strata else self.hazard[:1]
        return (-hazard * output[:, :1].clamp(-60, 60).exp()).exp()

    def _mean_time(self, curves: Tensor) -> Tensor:
        """The area under each curve up to the last time ``[B]`` float64: the mean time, counting no later one."""
        times = torch.cat([torch.zeros(1, dtype=torch.float64), self.times])
        return torch.trapezoid(torch.cat([curves.new_ones(len(curves), 1), curves], dim=1).double().cpu(), times, dim=1)

    def compare(self, output: Tensor, target: Field) -> tuple[Tensor, Tensor]:
        """Risk and curve ``[B, 1 + steps]``, time and event ``[B, 2]``, all float64 and in the table's own unit."""
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
        return Pairs(self, self.compare, each)

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
        found: list[Answer] = []
        for row, (curve, mean) in enumerate(zip(curves.tolist(), self._mean_time(curves).tolist(), strict=True)):
            median = next((time for time, share in zip(times, curve, strict=True) if share <= 0.5), None)
            one: Answer = {"value": mean, "median": median}
            if self.cox:
                one |= {"hazard_ratio": ratio[row], "group": GROUPS[int(group[row] or 0)]}
            one["survival"] = {"time": [times[i] for i in shown], "chance": [curve[i] for i in shown]}
            found.append(one)
        return found

    def truths(self, batch: Batch) -> list[Any]:
        field = self.target(batch)
        if field is None:
            return [None] * batch.rows
        read = self._read(self.time, field.data[:, 0])
        return [
            {"time": time, "event": event > 0.5} if here else None
            for time, event, here in zip(read, field.data[:, 1].tolist(), field.present.tolist(), strict=True)
        ]

    # ── what can be said of its answers ────────────────────────────────────────────────────────────────────────────────

    def explained(self, output: Tensor, of: Tensor) -> Tensor:
        return 1 - self.curves(output)[:, self.steps // 2]

    def question(self, of: Tensor) -> list[str]:
        return [f"chance of the event by {self.time} {float(self.times[self.steps // 2]):.4g}"] * of.shape[0]

    def views(self, scorer: Scorer[Tensor]) -> list[View]:
        if not isinstance(scorer, Pairs) or scorer.rows == 0:
            return []
        return survival_views(scorer.prediction, scorer.truth, self.times, self.time)

    def baseline(self, targets: Iterable[Field]) -> list[float]:
        """The hazard of every interval as its logit, for all rows alike; of ``cox`` the score of a middling row."""
        if self.cox:
            return [0.0] * (2 if self.strata else 1)
        known = _known(targets)
        whole = breslow(torch.zeros(len(known)), known[:, 0], known[:, 1] > 0.5, torch.ones(len(known)), self.grid)
        found: list[float] = _logits(whole, self.grid).tolist()
        return found

    def constant(self, baseline: list[float], rows: int) -> Tensor:
        return torch.tensor(baseline).expand(rows, -1)


def _known(targets: Iterable[Field]) -> Tensor:
    """Times and events that are there ``[rows, 2]``."""
    parts = [part.data[part.present] for part in targets]
    return torch.cat(parts).float() if parts else torch.zeros(0, 2)


def _logits(hazard: Tensor, grid: Tensor) -> Tensor:
    """Cumulative hazards ``[K]`` as the logit of each interval's ``[K]`` float32; those that are no interval start at 0."""
    share = 1 - (-torch.diff(hazard, prepend=hazard.new_zeros(1))).exp()
    return torch.where(intervals(grid), share.clamp(1e-4, 1 - 1e-4).logit(), 0.0).float()
