"""Late fusion heads: one task head per stream with its own loss, and the combination of their predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sensorium.core.answer import Answer
from sensorium.core.batch import Batch, Encoded, Field, Tensors
from sensorium.core.errors import ConfigError
from sensorium.core.module_dict import NamedModules
from sensorium.core.report_views import View
from sensorium.core.scorer import Scorer
from sensorium.core.task import EncodedRows, Task
from sensorium.heads.stacking import Stacker, learn_stacker

Decide = Literal["mean", "vote", "learned", "stacking"]


@dataclass(frozen=True)
class LateOutputs(Tensors):
    """The training output of late heads.

    Args:
        together: The combined output of the task.
        each: The output of every stream's head, in the model's order.
        presence: Which streams are present ``[B, S]``.
    """

    together: Any
    each: list[Any]
    presence: Tensor


class LateHeads(Task[Any]):
    """A task with one head per stream: late fusion of predictions rather than features.

    In training the output is ``LateOutputs``: each head is trained by its own loss, independently of the others. In
    evaluation it is the task's own output.

    Args:
        streams: The streams, in the model's order.
        make: Creates one head.
        decide: ``mean`` of the predictions, ``vote``, ``learned`` weights, or ``stacking``: a small model fitted after
            training on the heads' outputs for held-out rows.
        share: Maps the presence of streams ``[B, S]`` to their weights ``[B, S]``.
    """

    def __init__(
        self, streams: Sequence[str], make: Callable[[], Task[Any]], *, decide: Decide, share: Callable[[Tensor], Tensor]
    ) -> None:
        tasks = {stream: make() for stream in streams}
        first = tasks[streams[0]]
        super().__init__(first.goal, first.dim)
        if not first.mergeable:
            raise ConfigError(
                f"task {first.goal.name!r}: answers of {type(first).__name__.lower()} cannot be averaged",
                fix="another fusion than late",
            )
        if decide == "vote" and type(first).merge is Task.merge:
            raise ConfigError(f"{type(first).__name__.lower()} has no votes to count", fix="decide: mean")
        self.streams, self.decide, self.share = tuple(streams), decide, share
        self.heads: NamedModules[Task[Any]] = NamedModules(tasks)
        self.corrects = True
        """Whether predictions are corrected on held-out rows (``Task.correct``), which needs every stream by itself."""
        self.stacker: nn.Module | None = None
        if decide == "stacking":
            self.stacker = Stacker(len(self.streams), _width(first))
        for name in ("headline", "higher_is_better", "predicts", "parts", "baseline_name", "differentiable"):
            self.__dict__[name] = getattr(first, name)

    @property
    def plain(self) -> Task[Any]:
        return self.heads[self.streams[0]]

    def coefficients(self) -> dict[str, float]:
        """Return the weight of each stream if all are present; with ``stacking``, the mean over the outputs."""
        everyone = torch.ones(1, len(self.streams), dtype=torch.bool, device=next(self.parameters()).device)
        share = self.stacker.share() if isinstance(self.stacker, Stacker) else self.share(everyone)[0]
        return dict(zip(self.streams, share.detach().tolist(), strict=True))

    @property
    def fits_after_training(self) -> bool:
        heads = any(head.fits_after_training for head in self.heads.values())
        only_corrects = type(self.plain).correct is not Task.correct
        return self.stacker is not None or (heads and (self.corrects or not only_corrects))

    @property
    def labels(self) -> tuple[str, ...]:
        return self.plain.labels

    @property
    def answer_columns(self) -> Mapping[str, tuple[str, ...]]:
        return self.plain.answer_columns

    @property
    def pyramids(self) -> tuple[str, ...]:
        return self.plain.pyramids

    def fit(self, targets: Iterable[Field]) -> None:
        for head in self.heads.values():
            head.fit(targets)

    def fit_after_training(self, training: EncodedRows, held_out: EncodedRows) -> None:
        """Run the post-training step of every head, then fit their combination on the held-out rows."""
        for stream, head in self.heads.items():
            if head.fits_after_training:
                head.fit_after_training(*(self._alone(seen, stream) for seen in (training, held_out)))
        if isinstance(self.stacker, Stacker):
            learn_stacker(self.stacker, self._outputs(held_out), held_out.target, held_out.weight, self.plain.loss)
        with torch.no_grad():
            # The correction of one head differs from that of the combined prediction.
            together = _together(self(held_out.fused, held_out.streams, held_out.prompts))
        self.plain.correct(together, held_out.target, held_out.weight)

    def _alone(self, seen: EncodedRows, stream: str) -> EncodedRows:
        """The rows as seen by the head of one stream; rows without the stream get no target."""
        part = seen.streams[stream]
        target = replace(seen.target, present=seen.target.present & part.present)
        return EncodedRows(part, {stream: part}, target, seen.weight, seen.prompts)

    @torch.no_grad()
    def _outputs(self, seen: EncodedRows) -> tuple[Tensor, Tensor]:
        """The outputs of every stream ``[B, S, K]``, and which streams are present ``[B, S]``."""
        each, presence = self._each(seen.fused, seen.streams, seen.prompts)
        return self._stacked(each), presence

    def _stacked(self, each: Sequence[Tensor]) -> Tensor:
        """Stack outputs to ``[B, S, K]``, each merged alone so that class logits become log-probabilities."""
        weight = each[0].new_ones(each[0].shape[0], 1)
        return torch.stack([self.plain.merge([output], weight) for output in each], dim=1)

    def _each(
        self, fused: Encoded, streams: Mapping[str, Encoded], prompts: Mapping[str, Field]
    ) -> tuple[list[Any], Tensor]:
        each, presence = [], []
        for i, stream in enumerate(self.streams):
            part = streams.get(stream)
            if part is None:  # a group of streams: the fusion passes its vector on as a token
                token, real = fused.tokens[:, i], fused.mask[:, i]
                part = Encoded(token.unsqueeze(1), real.unsqueeze(1), token, real)
            each.append(self.heads[stream](part, {stream: part}, prompts))
            presence.append(part.present)
        return each, torch.stack(presence, dim=1)

    def forward(self, fused: Encoded, streams: Mapping[str, Encoded], prompts: Mapping[str, Field]) -> Any:
        each, presence = self._each(fused, streams, prompts)
        # A row without any stream combines all heads' outputs for missing input: the priors.
        heard = presence | ~presence.any(dim=1, keepdim=True)
        if isinstance(self.stacker, Stacker):
            together = self.stacker(self._stacked(each), heard)
        else:
            # The weights are trained on the heads' outputs without gradients into the heads.
            outputs = [_detached(output) for output in each] if self.training else each
            together = self.plain.merge(outputs, self.share(heard), vote=self.decide == "vote")
        return LateOutputs(together, each, presence) if self.training else together

    def loss(self, output: Any, target: Field) -> Tensor:
        if not isinstance(output, LateOutputs):
            return self.plain.loss(output, target)
        own = [head.loss(each, target) for head, each in zip(self.heads.values(), output.each, strict=True)]
        loss = (torch.stack(own, dim=1) * output.presence).sum(dim=1) / len(self.streams)
        return loss + self.plain.loss(output.together, target) if self.decide == "learned" else loss

    def reported_loss(self, output: Any, target: Field) -> Tensor:
        return self.plain.reported_loss(_together(output), target)

    def target(self, batch: Batch) -> Field | None:
        return self.plain.target(batch)

    def truths(self, batch: Batch) -> list[Any]:
        return self.plain.truths(batch)

    def scorer(self) -> Scorer[Any]:
        return self.plain.scorer()

    def answers(self, output: Any, batch: Batch) -> list[Answer]:
        return self.plain.answers(_together(output), batch)

    def explained(self, output: Any, of: Any) -> Tensor | None:
        return self.plain.explained(_together(output), _together(of))

    def question(self, of: Any) -> list[str]:
        return self.plain.question(_together(of))

    def views(self, scorer: Scorer[Any]) -> list[View]:
        return self.plain.views(scorer)

    def baseline(self, targets: Iterable[Field]) -> Any | None:
        return self.plain.baseline(targets)

    def constant(self, baseline: Any, rows: int) -> Any:
        return self.plain.constant(baseline, rows)


def _together(output: Any) -> Any:
    return output.together if isinstance(output, LateOutputs) else output


def _detached(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.detach()
    return output.map(Tensor.detach) if isinstance(output, Tensors) else output


@torch.no_grad()
def _width(task: Task[Any]) -> int:
    """The width of the task's output."""
    was = task.training
    one = torch.ones(1, 1, dtype=torch.bool)
    nothing = Encoded(torch.zeros(1, 1, task.dim), one, torch.zeros(1, task.dim), one[0])
    output = task.eval()(nothing, {"": nothing}, {})
    task.train(was)
    if not (isinstance(output, Tensor) and output.dim() == 2 and output.is_floating_point()):
        raise ConfigError(f"outputs of {type(task).__name__.lower()} cannot be stacked", fix="decide: mean")
    return output.shape[1]
