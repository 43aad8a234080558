"""Forecasting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from sensorium.core.answer import Answer
from sensorium.core.batch import Batch, Encoded, Field
from sensorium.core.errors import ConfigError
from sensorium.core.goal import Goal
from sensorium.core.layout import Grid
from sensorium.core.modality import Modality
from sensorium.core.registry import chosen, component
from sensorium.core.report_views import View
from sensorium.core.scorer import Kept, Scorer
from sensorium.core.task import EncodedRows, Task
from sensorium.heads.forecast_views import forecast_views
from sensorium.metrics.forecasting import METRICS, ForecastScorer, row_scores
from sensorium.nn.forecaster import LEVELS, MEDIAN, Forecaster, pinball, uncrossed
from sensorium.nn.simple_forecasts import PastWindow, SimpleForecasts

LEAST = 1e-3
"""Smallest scale of a window, in standard deviations of the training targets: a constant past has none of its own."""
PER_STEP = 100
"""Least number of held-out values of each step for a correction of its own (``calibrate: auto``)."""


@component
class Forecasting(Task[Tensor]):
    """Forecasting: the next steps of one or several series, as quantiles, from their past and every other stream.

    The target is a series, the future of the series it lies on; gaps in it are skipped by loss and scores. The past is
    normalised by its own level and spread, so that shifts of level change nothing; its first channels must be the series
    that are forecast, further ones are read too. Quantiles are corrected on the held-out rows (split conformal).

    Output: quantiles ``[B, H, C, Q]`` in standard deviations of the training targets. Target: ``[B, 1 + H, C]``, first the
    error of the naive forecast within the past (NaN if unknown), then the future, NaN where missing.
    Sources: Bai et al. 2018, https://arxiv.org/abs/1803.01271; Romano et al. 2019, https://arxiv.org/abs/1905.03222;
    Kim et al. 2022 (instance normalisation), https://openreview.net/forum?id=cGDAkQo1C0p.

    Args:
        hidden: Channels of the convolutions over the past.
        depth: Blocks of convolutions; the dilation doubles with each.
        dropout: Dropout rate.
        past: Largest number of steps of the past that are read.
        anchor: Level of a window: the ``mean`` of its steps, or its ``last`` step.
        known: Inputs of kind ``series`` whose steps are those of the future: what is known of each in advance; None:
            nothing is.
        season: Steps of a season, for the seasonal naive forecast and the scale of MASE; 1: the last value.
        linear: Whether a linear (ridge) forecast is fitted beside the network and takes the share in the answer, up to a
            half, that is best on held-out rows.
        analog: The same for an analogue forecast: the continuation of earlier stretches of the window's past that resemble
            its last steps.
        calibrate: Correct quantiles by ``step``, for ``all`` steps alike, not at all (``none``), or by step where there
            are enough held-out values (``auto``).
    """

    predicts: ClassVar[tuple[str, ...]] = ("series",)
    base_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {"series": {"keep": "end"}}
    headline: ClassVar[str] = "mase"
    higher_is_better: ClassVar[bool] = False
    baseline_name: ClassVar[str] = "always answering the quantiles of the training rows"
    mergeable: ClassVar[bool] = False

    def __init__(
        self,
        goal: Goal,
        dim: int,
        *,
        hidden: int = 48,
        depth: int = 5,
        dropout: float = 0.3,
        past: int = 512,
        anchor: Literal["mean", "last"] = "mean",
        known: list[str] | None = None,
        season: int = 1,
        linear: bool = True,
        analog: bool = True,
        calibrate: Literal["auto", "step", "all", "none"] = "auto",
    ) -> None:
        super().__init__(goal, dim)
        if past < 2 or season < 1 or depth < 1 or hidden < 1:
            raise ConfigError("forecasting: past is 2 or more; season, depth and hidden are 1 or more")
        self.anchor, self.season, self.calibrate = anchor, season, calibrate
        state = goal.modality.state
        self.horizon, self.series = int(state["length"]), int(state["channels"])
        (name,) = goal.targets
        self.on = goal.lies_on.get(name)
        self.past, channels = 2, 0
        centre, spread = torch.tensor(state["mean"]), torch.tensor(state["deviation"])
        factor, offset = torch.ones(self.series), torch.zeros(self.series)
        if self.on is not None:
            layout, base = goal.streams[self.on], goal.bases[name]
            assert isinstance(layout, Grid)
            self.past, channels = max(2, min(past, layout.size[0])), layout.channels
            factor, offset = self._units(base, centre, spread)
        self.centre: Tensor
        self.spread: Tensor
        self.factor: Tensor
        self.offset: Tensor
        self.shift: Tensor
        self.register_buffer("centre", centre)
        self.register_buffer("spread", spread)
        self.register_buffer("factor", factor)
        self.register_buffer("offset", offset)
        self.register_buffer("shift", torch.zeros(self.horizon, len(LEVELS)))
        self.known = tuple(known or ())
        for stream in self.known:
            if not isinstance(goal.streams.get(stream), Grid):
                fix = "an input of kind series, besides the past"
                raise ConfigError(f"task {goal.name!r}: {stream!r} is no series of the steps ahead", fix=fix)
        ahead = sum(layout.channels for stream in self.known if isinstance(layout := goal.streams[stream], Grid))
        self.net = Forecaster(
            channels, self.horizon, self.series, dim, width=hidden, depth=depth, dropout=dropout, known=ahead
        )
        self.simple: SimpleForecasts | None = None
        if (linear or analog) and self.on is not None:
            self.simple = SimpleForecasts(self.past, self.horizon, self.series, ahead, linear=linear, analog=analog)

    @classmethod
    def on_windows(cls, season: int, known: Sequence[str]) -> dict[str, Any]:
        return {"season": season, "known": list(known)}

    def _units(self, base: Modality, centre: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
        """Factor and offset ``[C]`` that turn the prepared past into standard deviations of the targets."""
        options = chosen(base)
        if options["window"] is not None or options["standardise"] == "recording":
            raise ConfigError(
                f"task {self.goal.name!r}: the level of the past is needed, and its column removes it",
                column=self.on,
                fix="leave out its options window and standardise",
            )
        if base.state["channels"] < self.series:
            raise ConfigError(
                f"task {self.goal.name!r}: {self.series} series are forecast, and the past has {base.state['channels']}",
                column=self.on,
                fix="the first channels of the past are the series that are forecast",
            )
        mean, deviation = (torch.tensor(base.state[key])[: self.series] for key in ("mean", "deviation"))
        if options["standardise"] == "none":
            mean, deviation = torch.zeros_like(mean), torch.ones_like(deviation)
        return deviation / spread, (mean - centre) / spread

    @property
    def answer_columns(self) -> Mapping[str, tuple[str, ...]]:
        levels = [f"{level:g}" for level in LEVELS]
        return {"times": ("times",), **{f"quantiles={level}": ("quantiles", level) for level in levels}}

    @property
    def prepared_streams(self) -> tuple[str, ...]:
        return (*(() if self.on is None else (self.on,)), *self.known)

    def _ahead(self, prompts: Mapping[str, Field]) -> Tensor | None:
        """What is known of the steps ahead ``[B, K, H]``, zero where it is not; None if nothing can be."""
        parts = []
        for stream in self.known:
            layout = self.goal.streams[stream]
            assert isinstance(layout, Grid)
            if (field := prompts.get(stream)) is None:
                continue
            mask = field.present[:, None] if field.mask is None else field.mask & field.present[:, None]
            data = (field.data * mask[:, None])[..., : self.horizon]
            parts.append(F.pad(data, (0, self.horizon - data.shape[2])))
        return torch.cat(parts, dim=1) if len(parts) == len(self.known) and parts else None

    def _window(self, field: Field) -> tuple[Tensor, Tensor]:
        """The last steps of the past ``[B, C, past]``, its first channels in the units of the output, and which are real
        ``[B, past]``; zero elsewhere."""
        steps = field.data.shape[2]
        mask = field.present[:, None].expand(-1, steps) if field.mask is None else field.mask
        count = mask.sum(dim=1, keepdim=True)
        at = count - self.past + torch.arange(self.past, device=mask.device)
        real = (at >= 0) & field.present[:, None]
        data = field.data.gather(2, at.clamp(0, steps - 1)[:, None].expand(-1, field.data.shape[1], -1))
        own = data[:, : self.series] * self.factor[:, None] + self.offset[:, None]
        return torch.cat([own, data[:, self.series :]], dim=1).masked_fill(~real[:, None], 0.0), real

    def target(self, batch: Batch) -> Field | None:
        field = super().target(batch)
        if field is None:
            return None
        steps = min(field.data.shape[1], self.horizon)
        future = field.data.new_full((len(field.present), self.horizon, self.series), torch.nan)
        future[:, :steps] = field.data[:, :steps]
        if field.mask is not None:
            future[:, :steps] = future[:, :steps].masked_fill(~field.mask[:, :steps, None], torch.nan)
        future = (future - self.centre) / self.spread
        scale = future.new_full((len(future), self.series), torch.nan)
        if self.on is not None and self.on in batch.inputs:
            window, real = self._window(batch.inputs[self.on])
            if window.shape[2] > self.season:
                both = (real[:, self.season :] & real[:, : -self.season])[:, None]
                change = (window[..., self.season :] - window[..., : -self.season])[:, : self.series].abs()
                count = both.sum(dim=2)
                scale = ((change * both).sum(dim=2) / count.clamp(min=1)).masked_fill(count == 0, torch.nan)
        present = field.present & future.isfinite().any(dim=2).any(dim=1)
        return Field(torch.cat([scale[:, None], future], dim=1), present)

    def forward(self, fused: Encoded, streams: Mapping[str, Encoded], prompts: Mapping[str, Field]) -> Tensor:
        window, level, spread, real = self._normalised(fused, prompts)
        known = self._ahead(prompts)
        quantiles = self.net(window, real, fused.pooled, known)
        if self.simple is not None and not self.training:
            move = self.simple(quantiles[..., MEDIAN], PastWindow(window[:, : self.series], real, known))
            quantiles = quantiles + move[..., None]
        return uncrossed(quantiles + self.shift[:, None]) * spread[:, None, :, None] + level[:, None, :, None]

    def _normalised(self, fused: Encoded, prompts: Mapping[str, Field]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The window relative to its own level and spread, these ``[B, C]``, and which steps are real."""
        rows = len(fused.pooled)
        level, spread = fused.pooled.new_zeros(rows, self.series), fused.pooled.new_ones(rows, self.series)
        field = None if self.on is None else prompts.get(self.on)
        if field is None:
            nothing = fused.pooled.new_zeros(rows, self.net.channels, self.past)
            return nothing, level, spread, nothing.new_zeros((rows, self.past), dtype=torch.bool)
        window, real = self._window(field)
        own, some = window[:, : self.series], real.any(dim=1, keepdim=True)
        count = real.sum(dim=1)[:, None].clamp(min=1)
        mean = own.sum(dim=2) / count
        square = ((own - mean[..., None]) * real[:, None]).square().sum(dim=2) / count
        spread = torch.where(some, (square + LEAST**2).sqrt(), spread)
        level = torch.where(some, mean if self.anchor == "mean" else own[..., -1], level)
        own = ((own - level[..., None]) / spread[..., None]) * real[:, None]
        return torch.cat([own, window[:, self.series :]], dim=1), level, spread, real

    def loss(self, output: Tensor, target: Field) -> Tensor:
        """The pinball loss, each series divided by the error of the naive forecast within its past."""
        scale, future = target.data[:, :1], target.data[:, 1:]
        known = future.isfinite() & target.present[:, None, None]
        scale = torch.where(scale.isfinite() & target.present[:, None, None], scale, 1.0).clamp(min=LEAST)
        each = pinball(output, torch.where(known, future, output[..., MEDIAN].detach())).mean(dim=-1) / scale
        return (each * known).sum(dim=(1, 2)) / known.sum(dim=(1, 2)).clamp(min=1)

    def fit(self, targets: Iterable[Field]) -> None:
        """Start from the quantiles of a normal distribution around the level of each window."""
        with torch.no_grad():
            last = self.net.out[-1]
            last.weight.mul_(0.1)  # type: ignore[operator]
            last.bias.zero_()  # type: ignore[operator]

    def fit_after_training(self, training: EncodedRows, held_out: EncodedRows) -> None:
        """Move every quantile but the median so that the right share of held-out truths lies below (split conformal)."""
        self.shift.zero_()
        with torch.no_grad():
            self._settle_simple(training, held_out)
            if self.calibrate == "none":
                return
            output = self(held_out.fused, held_out.streams, held_out.prompts)
            spread = self._normalised(held_out.fused, held_out.prompts)[2]
            keep = held_out.target.present & (held_out.weight > 0)
            wrong = (held_out.target.data[keep, 1:, :, None] - output[keep]) / spread[keep, None, :, None]
            wrong = wrong.transpose(0, 1).flatten(1, 2)  # [H, rows * C, Q]
            known = wrong.isfinite().all(dim=2)
            if not bool(known.any()):
                return
            fewest = int(known.sum(dim=1).min())
            alike = self.calibrate == "all" or (self.calibrate == "auto" and fewest < PER_STEP) or fewest == 0
            for i, level in enumerate(LEVELS):
                if i == MEDIAN:
                    continue
                if alike:
                    self.shift[:, i] = wrong[known][:, i].double().quantile(level).to(self.shift)
                    continue
                for step in range(self.horizon):
                    self.shift[step, i] = wrong[step, known[step], i].double().quantile(level).to(self.shift)

    def _settle_simple(self, training: EncodedRows, held_out: EncodedRows) -> None:
        """Fit the simple forecasts, and their weights in the mix with the network on the held-out rows."""
        if self.simple is None:
            return
        self.simple.clear()
        parts = []
        for seen in (training, held_out):
            keep = seen.target.present & (seen.weight > 0)
            window, level, spread, real = self._normalised(seen.fused, seen.prompts)
            future = (seen.target.data[:, 1:] - level[:, None]) / spread[:, None]
            scale = (seen.target.data[:, :1] / spread[:, None]).nan_to_num(1.0).clamp(min=LEAST)
            past = PastWindow(window[:, : self.series], real, self._ahead(seen.prompts)).take(keep)
            parts.append((past, future[keep], scale[keep]))
        (past, future, _), (past_held, truth, scale) = parts
        if not len(future) or not bool(truth.isfinite().any()):
            return
        self.simple.fit(past, future, past_held, truth, scale)
        keep = held_out.target.present & (held_out.weight > 0)
        _, level, spread, _ = self._normalised(held_out.fused, held_out.prompts)
        median = (self(held_out.fused, held_out.streams, held_out.prompts)[..., MEDIAN] - level[:, None]) / spread[:, None]
        self.simple.share_out(median[keep], past_held, truth, scale)

    def _beside(self, batch: Batch, rows: int) -> list[Tensor]:
        """The linear forecast and the one by analogy for a batch of ``rows`` rows ``[B, H, C]`` in the units of the output;
        NaN: there is none."""
        like = self.shift.new_zeros(rows, 1)
        nothing = like.new_full((rows, self.horizon, self.series), torch.nan)
        if self.simple is None or self.on not in batch.inputs:
            return [nothing, nothing]
        fused = Encoded(like[:, None], torch.ones_like(like, dtype=torch.bool), like, torch.ones_like(like[:, 0] > 0))
        window, level, spread, real = self._normalised(fused, batch.inputs)
        ahead = self.simple.each(PastWindow(window[:, : self.series], real, self._ahead(batch.inputs)))
        return [nothing if part is None else part * spread[:, None] + level[:, None] for part in ahead]

    def _user(self, value: Tensor) -> Tensor:
        """Values ``[..., C]`` in the units of the table, float64 on the CPU."""
        return value.detach().double().cpu() * self.spread.double().cpu() + self.centre.double().cpu()

    def scorer(self) -> Scorer[Tensor]:
        return ForecastScorer(self._scored)

    def _scored(self, output: Tensor, batch: Batch) -> Kept:
        target = self.target(batch)
        present = torch.zeros(len(output), dtype=torch.bool) if target is None else target.present.cpu()
        data = torch.zeros(len(output), 1 + self.horizon, self.series) if target is None else target.data.cpu()
        output, data = output.detach().cpu()[present], data[present]
        width = self.spread.double().cpu()
        truth, scale = self._user(data[:, 1:]), data[:, 0].double() * width
        quantiles = self._user(output.movedim(-1, 0))  # [Q, n, H, C]
        low, median, high = (quantiles[LEVELS.index(level)] for level in (0.1, 0.5, 0.9))
        lost = pinball(quantiles.movedim(0, -1), truth).mean(dim=-1)
        field = None if self.on is None else batch.inputs.get(self.on)
        past = torch.full((len(truth), self.past, self.series), torch.nan, dtype=torch.float64)
        if field is not None:
            window, real = self._window(field)
            values = self._user(window[:, : self.series].transpose(1, 2))
            past = values.masked_fill(~real.cpu()[:, :, None], torch.nan)[present]
        season = min(self.season, self.past)
        seasonal = past[:, -season:].repeat(1, -(-self.horizon // season), 1)[:, : self.horizon]
        simple = [past[:, -1:].expand_as(truth), seasonal, past.nanmean(dim=1, keepdim=True).expand_as(truth)]
        simple += [self._user(part[present.to(self.shift.device)]) for part in self._beside(batch, len(present))]
        error = (truth - median).abs() / scale.masked_fill(~(scale > 0), torch.nan)[:, None]
        inside = ((truth >= low) & (truth <= high)).double().masked_fill(~truth.isfinite(), torch.nan)
        return {
            "scores": row_scores(low, median, high, lost, truth, scale),
            "simple": torch.stack([row_scores(one, one, one, lost, truth, scale)[:, 0] for one in simple], dim=1),
            "steps": error.nanmean(dim=2),
            "covered": inside.nanmean(dim=2),
            "past": past[:, -3 * self.horizon :, 0],
            "fan": torch.stack([low, median, high], dim=1)[..., 0],
            "future": truth[..., 0],
        }

    def answers(self, output: Tensor, batch: Batch) -> list[Answer]:
        quantiles = self._user(output.movedim(-1, 1))  # [B, Q, H, C]
        plain = (quantiles[..., 0] if self.series == 1 else quantiles).tolist()
        steps = list(range(1, self.horizon + 1))
        return [
            {
                "value": row[MEDIAN],
                "quantiles": {f"{level:g}": line for level, line in zip(LEVELS, row, strict=True)},
                "steps": steps,
            }
            for row in plain
        ]

    def truths(self, batch: Batch) -> list[Any]:
        field = self.target(batch)
        if field is None:
            return [None] * batch.rows
        cells = self._user(field.data[:, 1:]).numpy()
        pairs = zip(cells, field.present.tolist(), strict=True)
        return [self.goal.modality.decode(cell) if present else None for cell, present in pairs]

    def explained(self, output: Tensor, of: Tensor) -> Tensor:
        median = output[..., MEDIAN].double() * self.spread.double() + self.centre.double()
        return median.mean(dim=(1, 2))

    def question(self, of: Tensor) -> list[str]:
        return ["mean of the median forecast"] * of.shape[0]

    def views(self, scorer: Scorer[Tensor]) -> list[View]:
        return forecast_views(scorer.kept, METRICS) if scorer.rows else []

    def baseline(self, targets: Iterable[Field]) -> list[list[list[float]]]:
        """Return the quantiles of the training futures, ``[H][C][Q]``."""
        parts = [part.data[part.present, 1:].double().cpu() for part in targets]
        known = torch.cat(parts) if parts else torch.zeros(0, self.horizon, self.series, dtype=torch.float64)
        known = known if len(known) else torch.zeros(1, self.horizon, self.series, dtype=torch.float64)
        levels = torch.tensor(LEVELS, dtype=torch.float64)
        quantiles: list[list[list[float]]] = known.nanquantile(levels, dim=0).nan_to_num(0.0).movedim(0, -1).tolist()
        return quantiles

    def constant(self, baseline: list[list[list[float]]], rows: int) -> Tensor:
        return torch.tensor(baseline, dtype=torch.float32).expand(rows, -1, -1, -1)
