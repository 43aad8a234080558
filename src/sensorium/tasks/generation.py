"""Generation: make new cells of some columns under the conditions that the others set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.core.answer import Answer
from sensorium.core.batch import Batch, Encoded, Field, Tensors
from sensorium.core.errors import ConfigError
from sensorium.core.goal import Goal
from sensorium.core.layout import Row
from sensorium.core.registry import component
from sensorium.core.report_views import View
from sensorium.core.scorer import Scorer
from sensorium.core.task import Task, Turn
from sensorium.heads.cell_forms import CellForm, form_of
from sensorium.heads.generation_judge import GenerationJudge
from sensorium.heads.generation_scorer import COLUMNS, SHOWN, GenerationScorer, Judged, gallery
from sensorium.nn.grid_generator import Generator, ProjectionCritic, Trunk, hinge
from sensorium.nn.seeded_noise import content_seeds, seeded_noise

SEEN = 2_000
"""Maximum number of rows to which the scales of generated numbers are fitted."""
BETAS = (0.0, 0.9)
"""Decay rates of AdamW's moments for two networks trained alternately (Miyato et al. 2018, appendix)."""
HIDDEN = 0.1
"""Share of training rows whose conditions are hidden."""
NOTHING = "making rows without any condition"


@dataclass(frozen=True)
class Conditions(Tensors):
    """The conditions of each row.

    Args:
        vector: ``[B, C]``.
        present: Whether a row has any ``[B]``.
        codes: The categories among them ``[B, K]``, counted from 1; 0 where unknown or hidden.
    """

    vector: Tensor
    present: Tensor
    codes: Tensor


@component
class Generation(Task[Conditions]):
    """Generation: make new cells of the target columns under the conditions that the inputs set.

    Targets are pictures, recordings, series, vectors, numbers and categories, several together if wanted; conditions are
    any inputs: a label, words, other media. ``sensorium sample`` makes rows, which ``fit`` reads. An answer of ``predict``
    is one row made under its conditions, always with the same noise.

    ``vae`` is a conditional variational autoencoder, ``gan`` a conditional generative adversarial network with a projection
    discriminator of spectral norm 1, whose two networks are trained alternately. A judge is trained beside them, on real
    rows only: it predicts the labels of a row and matches rows to their conditions. All scores are taken in the space of
    its features. ``label_coverage``, the headline, is the share of real rows with a nearby made row of the same label,
    whose label the judge recognises; without labels it is the coverage.

    Sources: Kingma and Welling 2013, https://arxiv.org/abs/1312.6114; conditional, Sohn et al. 2015 (NeurIPS, Learning
    Structured Output Representation using Deep Conditional Generative Models); learnt deviation, Rybkin et al. 2021,
    https://arxiv.org/abs/2006.13202; Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661; Miyato and Koyama
    2018, https://arxiv.org/abs/1802.05637.

    Args:
        maker: ``vae`` trains steadily; ``gan`` makes sharper rows and needs more steps.
        latent: Numbers that are drawn for each row.
        width: Channels of the networks at their finest resolution but one.
        beta: Weight of the divergence of the drawn numbers from a standard normal (``vae``): larger follows the conditions
            more closely and varies less.
    """

    predicts: ClassVar[tuple[str, ...]] = ("image", "audio", "series", "vector", "number", "category", "ordinal")
    gathers: ClassVar[str | None] = ""
    conditioned: ClassVar[bool] = True
    headline: ClassVar[str] = "label_coverage"
    baseline_name: ClassVar[str] = NOTHING
    per_row: ClassVar[bool] = False
    mergeable: ClassVar[bool] = False

    def __init__(
        self,
        goal: Goal,
        dim: int,
        *,
        maker: Literal["vae", "gan"] = "vae",
        latent: int = 32,
        width: int = 32,
        beta: float = 1.0,
    ) -> None:
        super().__init__(goal, dim)
        if not 1 <= latent <= 4096:
            raise ConfigError(f"generation: latent is {latent}", fix="from 1 to 4096; 32 is usual")
        if not 4 <= width <= 512:
            raise ConfigError(f"generation: width is {width}", fix="from 4 to 512; 32 is usual")
        if beta < 0:
            raise ConfigError(f"generation: beta is {beta}", fix="a weight is 0 or more")
        self.latent, self.beta = latent, beta
        self.names = list(goal.targets)
        self.forms = nn.ModuleList(form_of(name, modality) for name, modality in goal.targets.items())
        shapes = [form.shape for form in self._forms]
        hidden = 4 * width
        self.condition = nn.Linear(dim, hidden)
        self.unconditional = nn.Parameter(torch.zeros(hidden))
        self.generators = nn.ModuleList(Generator(latent + hidden, shape, width) for shape in shapes)
        self.conditions = self._conditions()
        counts = [n for _, _, n in self.conditions]
        self.judge = GenerationJudge(shapes, hidden, [n - 1 for n in counts], width)
        self.trunks = self.posterior = self.critic = None
        self.label_vectors = nn.ModuleList()
        if maker == "vae":
            self.trunks = nn.ModuleList(Trunk(shape, hidden, width) for shape in shapes)
            self.posterior = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.GELU(), nn.Linear(hidden, 2 * latent))
        else:
            # Unlike the likelihood, a critic does not train an encoder to distinguish labels: they need embeddings.
            self.label_vectors = nn.ModuleList(nn.Embedding(count, hidden) for count in counts)
            self.critic = ProjectionCritic(shapes, hidden, hidden, width, counts)

    @property
    def _forms(self) -> list[CellForm]:
        return [form for form in self.forms if isinstance(form, CellForm)]

    def _conditions(self) -> list[tuple[str, int, int]]:
        """The categories among the conditions: stream, cell and number of codes."""
        return [
            (stream, cell, count)
            for stream, layout in self.goal.streams.items()
            if isinstance(layout, Row)
            for cell, count in enumerate(layout.cardinalities)
            if count > 1
        ]

    @property
    def prepared_streams(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(stream for stream, _, _ in self.conditions))

    @property
    def turns(self) -> tuple[Turn, ...]:
        if self.critic is None:
            return ()
        of_critic = [*self.critic.parameters(), *self.judge.parameters()]
        critic_ids = {id(parameter) for parameter in of_critic}
        of_generator = [parameter for parameter in self.parameters() if id(parameter) not in critic_ids]
        return (Turn("critic", of_critic, BETAS), Turn("generator", of_generator, BETAS))

    # ── model ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def fit(self, targets: Iterable[Field]) -> None:
        parts: list[Tensor] = []
        for field in targets:
            parts.append(field.data)
            if sum(map(len, parts)) >= SEEN:
                break
        for form, values in zip(self._forms, self._split(torch.cat(parts)) if parts else [], strict=False):
            form.fit(values[values.flatten(1).isfinite().all(dim=1)])

    def target(self, batch: Batch) -> Field | None:
        """The numbers of all target columns side by side ``[B, F]``, NaN where a cell is missing; present where any is
        not."""
        if any(name not in batch.targets for name in self.names):
            return None
        fields = [batch.targets[name] for name in self.names]
        parts = [form.values(field).flatten(1) for form, field in zip(self._forms, fields, strict=True)]
        parts = [p.masked_fill(~f.present[:, None], torch.nan) for p, f in zip(parts, fields, strict=True)]
        return Field(torch.cat(parts, dim=1), torch.stack([field.present for field in fields]).any(dim=0))

    def _split(self, data: Tensor) -> list[Tensor]:
        """``data`` ``[B, F]`` by column ``[B, *shape]``."""
        parts = torch.split(data, [form.size for form in self._forms], dim=1)
        return [part.reshape(-1, *form.shape) for part, form in zip(parts, self._forms, strict=True)]

    def _known(self, target: Field) -> tuple[list[Tensor], Tensor]:
        """The numbers of each column, 0 where unknown, and which columns a row has ``[B, columns]``."""
        parts = self._split(target.data)
        known = torch.stack([part.flatten(1).isfinite().all(dim=1) for part in parts], dim=1) & target.present[:, None]
        return [part.masked_fill(~_wide(ok, part), 0.0) for part, ok in zip(parts, known.unbind(1), strict=True)], known

    def forward(self, fused: Encoded, streams: Mapping[str, Encoded], prompts: Mapping[str, Field]) -> Conditions:
        present = fused.present
        if self.training:
            # Some conditions are hidden, so that rows can also be made without any.
            present = present & (torch.rand(len(present), device=present.device) >= HIDDEN)
        vector = torch.where(present[:, None], self.condition(fused.pooled), self.unconditional)
        codes = vector.new_zeros((len(vector), len(self.conditions)), dtype=torch.long)
        for k, (stream, cell, count) in enumerate(self.conditions):
            field = prompts[stream]
            code = field.data[:, cell].nan_to_num(0.0).long().clamp(0, count - 1)
            codes[:, k] = torch.where(field.present, code, 0)
        for k, label in enumerate(self.label_vectors):
            vector = vector + label(codes[:, k]) * ((codes[:, k] > 0) & present)[:, None]
        return Conditions(vector, present, codes)

    def _made(self, vector: Tensor, latent: Tensor) -> list[Tensor]:
        """Network outputs by column, for conditions ``vector`` ``[B, C]`` and ``latent`` numbers ``[B, Z]``."""
        code = torch.cat([latent, vector], dim=1)
        return [generate(code).float() for generate in self.generators]

    def _bounded(self, raw: Sequence[Tensor]) -> list[Tensor]:
        return [form.bounded(part) for form, part in zip(self._forms, raw, strict=True)]

    def loss(self, output: Conditions, target: Field) -> Tensor:
        parts, known = self._known(target)
        if self.critic is not None:
            loss = self._adversarial(self.critic, output, parts, known)
            return loss if self.training and self.turn > 0 else loss + self._judge_loss(output, parts)
        return self.reported_loss(output, target) + self._judge_loss(output, parts)

    def _judge_loss(self, output: Conditions, parts: Sequence[Tensor]) -> Tensor:
        return self.judge.loss(parts, output.vector.detach(), output.codes, output.present)

    def reported_loss(self, output: Conditions, target: Field) -> Tensor:
        """The bound on the negative log-likelihood per number (``vae``), or the loss of the discriminator (``gan``)."""
        parts, known = self._known(target)
        if self.critic is not None:
            return self._adversarial(self.critic, output, parts, known)
        assert self.trunks is not None
        assert self.posterior is not None
        seen = torch.stack([trunk(part) for trunk, part in zip(self.trunks, parts, strict=True)]).mean(dim=0)
        mean, log_variance = self.posterior(torch.cat([F.gelu(seen), output.vector], dim=1)).float().chunk(2, dim=1)
        log_variance = log_variance.clamp(-10, 10)
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1) / 2
        latent = mean + (log_variance / 2).exp() * torch.randn_like(mean) if self.training else mean
        raw = self._made(output.vector, latent)
        errors = [form.error(r, p) for form, r, p in zip(self._forms, raw, parts, strict=True)]
        size = sum(form.size for form in self._forms)
        unlikely: Tensor = (torch.stack(errors, dim=1) * known).sum(dim=1)
        loss: Tensor = (unlikely + self.beta * divergence) / size
        return loss

    def _adversarial(self, critic: ProjectionCritic, output: Conditions, parts: Sequence[Tensor], known: Tensor) -> Tensor:
        """The loss ``[B]`` of the network trained in this step; in evaluation that of the discriminator, without noise."""
        rows = len(output.vector)
        if self.training:
            latent = torch.randn(rows, self.latent, device=output.vector.device)
        else:
            latent = output.vector.new_zeros(rows, self.latent)
        shown = [_wide(ok, part) for part, ok in zip(parts, known.unbind(1), strict=True)]
        made = [m * s for m, s in zip(self._bounded(self._made(output.vector, latent)), shown, strict=True)]
        # The critic gets no label of rows whose conditions are hidden.
        codes = output.codes * output.present[:, None]
        if self.training and self.turn > 0:
            score: Tensor = critic(made, output.vector.detach(), codes)
            return -score
        vector = output.vector.detach()
        return hinge(critic(parts, vector, codes), critic([part.detach() for part in made], vector, codes))

    # ── making rows ────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def generated_columns(self) -> tuple[str, ...]:
        return tuple(self.names)

    @torch.no_grad()
    def made_values(self, output: Conditions, seeds: Sequence[int]) -> list[Tensor]:
        """The numbers of a made row for each row of ``output``, by column ``[B, *shape]``, from noise of ``seeds``."""
        noisy = [form.size if form.noisy else 0 for form in self._forms]
        noise = seeded_noise(seeds, self.latent + sum(noisy)).to(output.vector)
        latent, *residual_noise = torch.split(noise, [self.latent, *noisy], dim=1)
        raw = self._made(output.vector, latent)
        return [form.drawn(r, n) for form, r, n in zip(self._forms, raw, residual_noise, strict=True)]

    def generate_rows(self, output: Conditions, seeds: Sequence[int]) -> list[dict[str, Any]]:
        values = self.made_values(output, seeds)
        return [
            {name: form.cell(part[i]) for name, form, part in zip(self.names, self._forms, values, strict=True)}
            for i in range(len(seeds))
        ]

    def answers(self, output: Conditions, batch: Batch) -> list[Answer]:
        rows = self.generate_rows(output, [0] * len(output.vector))
        return [{"value": row if len(row) > 1 else next(iter(row.values()))} for row in rows]

    def truths(self, batch: Batch) -> list[Any]:
        target = self.target(batch)
        if target is None:
            return [None] * batch.rows
        parts, known = self._known(target)
        cells: list[Any] = []
        for i, row in enumerate(known.tolist()):
            row_cells = {
                name: form.truth(part[i])
                for name, form, part, ok in zip(self.names, self._forms, parts, row, strict=True)
                if ok
            }
            cells.append(None if not row_cells else row_cells if len(self.names) > 1 else row_cells[self.names[0]])
        return cells

    # ── scores and views ───────────────────────────────────────────────────────────────────────────────────────────────

    def fit_after_training(self, training: Any, held_out: Any) -> None:
        """Keep the features of the training rows, which made rows are compared with."""
        parts, known = self._known(training.target)
        self.judge.remember([part[known.all(dim=1)] for part in parts])

    def scorer(self) -> Scorer[Conditions]:
        return GenerationScorer(self.judged, labelled=bool(self.conditions))

    def judged(self, output: Conditions, batch: Batch) -> Judged:
        """A row made under the conditions in ``output`` for each row of ``batch`` with a target, beside the real one."""
        target = self.target(batch)
        assert target is not None
        parts, known = self._known(target)
        rows = (target.present & known.all(dim=1)).nonzero()[:, 0]
        output, parts = output.map(lambda t: t[rows]), [part[rows] for part in parts]
        made = self.made_values(output, content_seeds(parts))
        return self.judge.compare(parts, made, output.vector, output.codes, output.present)

    def explained(self, output: Conditions, of: Conditions) -> Tensor:
        """The similarity of the row that ``of`` makes to the conditions of ``output``, 0 where there are none."""
        made = self.made_values(of, [0] * len(of.vector))
        return self.judge.similarity(made, output.vector) * output.present

    def question(self, of: Conditions) -> list[str]:
        return ["similarity of the made row to its conditions"] * len(of.vector)

    def views(self, scorer: Scorer[Conditions]) -> list[View]:
        if not isinstance(scorer, GenerationScorer) or not scorer.rows:
            return []
        kept = scorer.kept
        codes = kept["codes"].long()
        order = codes[:, 0].argsort(stable=True).tolist() if codes.shape[1] else list(range(scorer.rows))
        labels = max(1, len(set(codes[:, 0].tolist()))) if codes.shape[1] else 1
        counts: dict[int, int] = {}
        chosen: list[int] = []
        for i in order:
            code = int(codes[i, 0]) if codes.shape[1] else 0
            counts[code] = counts.get(code, 0) + 1
            if counts[code] <= max(1, min(COLUMNS, SHOWN // labels)) or labels == 1:
                chosen.append(i)
        chosen = chosen[:SHOWN]
        vector = kept["vector"][chosen].to(self.unconditional)
        output = Conditions(vector, torch.ones(len(chosen), dtype=torch.bool), codes[chosen])
        rows = self.generate_rows(output, list(range(len(chosen))))
        words = [self._words(codes[i]) for i in chosen]
        shown = scorer.views()
        for name in self.names:
            cells = [(caption, row[name]) for caption, row in zip(words, rows, strict=True)]
            view = gallery([cell for cell in cells if not isinstance(cell[1], (int, float, str, bool))], name)
            shown += [view] if view is not None else []
        return shown

    def _words(self, codes: Tensor) -> str:
        """The labels of a row in words, ``label 7``."""
        words = []
        for (stream, cell, _), code in zip(self.conditions, codes.tolist(), strict=True):
            columns = list(self.goal.inputs.get(stream, {}).items())
            name, values = (columns[cell][0], columns[cell][1].classes) if cell < len(columns) else (stream, [])
            words.append(f"{name} {values[code - 1] if 0 < code <= len(values) else code}")
        return ", ".join(words) or "drawn"

    def baseline(self, targets: Iterable[Field]) -> str:
        """The baseline makes rows without any condition."""
        return NOTHING

    def constant(self, baseline: Any, rows: int) -> Conditions:
        device = self.unconditional.device
        vector = self.unconditional.detach().expand(rows, -1)
        none = torch.zeros(rows, dtype=torch.bool, device=device)
        return Conditions(vector, none, torch.zeros(rows, len(self.conditions), dtype=torch.long, device=device))


def _wide(flags: Tensor, part: Tensor) -> Tensor:
    """``flags`` ``[B]`` for every number of ``part`` ``[B, *shape]``."""
    return flags.reshape(-1, *[1] * (part.dim() - 1)).expand_as(part)
