"""The object that ``fit`` and ``load`` return: predict, evaluate, explain, save."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.artifact import Artifact
from sensorium.core.batch import Batch
from sensorium.core.cpu_cores import process_cores
from sensorium.core.decoding_options import Decoding
from sensorium.core.errors import DataError
from sensorium.core.plurals import counted
from sensorium.core.portable_recipe import portable
from sensorium.core.recipe import Recipe, Spec
from sensorium.core.registry import split as split_spec
from sensorium.core.schema import Record, Schema
from sensorium.data.files.media_access import LocalFiles
from sensorium.data.files.output_path import prepare_output
from sensorium.data.inspection.target_types import missing_values_note
from sensorium.data.inspection.unseen_values import misnamed_hint, missing_columns_note, unseen_value_notes
from sensorium.data.regular_grid import TIMES
from sensorium.data.tables.records import Records, media_opener
from sensorium.data.tables.table import Table
from sensorium.data.window_tables import as_windows
from sensorium.model import Model
from sensorium.predictor import Prediction, Predictor, Step
from sensorium.reporting.cell_problems import print_problems, unscored
from sensorium.reporting.console import Console
from sensorium.reporting.model_facts import facts
from sensorium.reporting.timed_answers import with_parts
from sensorium.sampling import Sampling

if TYPE_CHECKING:
    from torch import Tensor

    from sensorium.data.encoded_rows import Rows
    from sensorium.evaluation.attribution import Map
    from sensorium.evaluation.nearest_rows import Neighbour
    from sensorium.evaluation.results import Evaluation
    from sensorium.evaluation.robustness import Robustness
    from sensorium.evaluation.stream_attribution import Explanation

EXPLAINED = 3
"""Number of the hardest rows of each target that a report explains."""


class Trained(Sampling):
    """A trained model, ready to use: what ``fit`` and ``load`` return."""

    def __init__(self, artifact: Artifact, *, cache: Path | None = None, device: str = "auto") -> None:
        self.artifact, self.cache, self.device = artifact, cache, device

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe: everything that was chosen."""
        return self.artifact.recipe

    @property
    def schema(self) -> Schema:
        """The columns, with what was learnt of them."""
        return self.artifact.schema

    @property
    def model(self) -> Model:
        """The network, a plain ``nn.Module``."""
        return self.artifact.model

    @property
    def history(self) -> list[dict[str, float]]:
        """Scores by epoch."""
        return list(self.artifact.report.get("history", []))

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights were kept; 0 where no network was trained."""
        return int(self.artifact.report.get("best_epoch", len(self.history)))

    @cached_property
    def predictor(self) -> Predictor:
        """Rows to predictions, without the trainer."""
        return Predictor(self.artifact, device=self.device)

    def predict(
        self, rows: Any, *, media: str | Path | None = None, batch_size: int = 64, batch_invariant: bool = False
    ) -> list[Prediction]:
        """Predict every row. Any column may be absent; unknown columns are ignored, with a warning if one may stand for
        an absent column.

        Args:
            rows: A path, a data frame, a list of dicts or a dict of columns.
            media: Folder of relative media paths; by default the table's, else the working folder.
            batch_size: Rows in each pass through the model.
            batch_invariant: Whether a row's answer is bit-identical whatever other rows are predicted with it: see
                ``Predictor.predict``.
        """
        table = self.windows(Table.read(rows, root=media))
        if meant := misnamed_hint(self.schema, table.columns):
            warnings.warn(f"{table.source}: {meant}", stacklevel=2)
        return list(self.stream(table, batch_size=batch_size, batch_invariant=batch_invariant))

    def windows(self, table: Table, *, future: bool = False) -> Table:
        """The rows of ``table`` as the model reads them: of a long table its windows, or with ``future`` those of a
        backtest, if it was trained on those of one (``data.windows``)."""
        return as_windows(table, self.recipe.data.windows, future=future)

    def stream(self, table: Table, *, batch_size: int = 64, batch_invariant: bool = False) -> Iterator[Prediction]:
        """As ``predict`` for a ``table`` of rows or windows, one batch after the other; forecasts with a clock have the
        ``times`` of their steps. ``batch_size`` and ``batch_invariant`` as there."""
        opener = LocalFiles(table.root or Path.cwd(), anywhere=True)
        every = self.predictor.stream(table.rows(), batch_size=batch_size, media=opener, batch_invariant=batch_invariant)
        timed = self.recipe.data.windows is not None and table.has(TIMES)
        return with_parts(every, TIMES, table.column(TIMES)) if timed else every

    def embed(
        self, rows: Any, *, stream: str | None = None, media: str | Path | None = None, batch_size: int = 64
    ) -> Tensor:
        """Return the embedding of each row ``[rows, D]``: the fused vector, or that of one stream before fusion.

        Any column may be absent. Vectors are bit-identical whatever other rows are embedded with them; that of an absent
        stream is zero.

        Args:
            rows: A path, a data frame, a list of dicts or a dict of columns.
            stream: The stream; None: all, fused.
            media: Folder of relative media paths; by default the table's, else the working folder.
            batch_size: Rows in each pass through the model.
        """
        table = self.windows(Table.read(rows, root=media))
        if meant := misnamed_hint(self.schema, table.columns):
            warnings.warn(f"{table.source}: {meant}", stacklevel=2)
        opener = LocalFiles(table.root or Path.cwd(), anywhere=True)
        return self.predictor.embed(table.rows(), stream=stream, batch_size=batch_size, media=opener, batch_invariant=True)

    def trace(self, row: Record, *, media: str | Path | None = None) -> list[Step]:
        """Return the value and shape of one ``row`` after every step; ``media`` as in ``predict``."""
        return self.predictor.trace(row, media=LocalFiles(media or Path.cwd(), anywhere=True))

    def evaluate(
        self,
        rows: Any,
        *,
        media: str | Path | None = None,
        report: str | Path | None = None,
        console: Console | None = None,
        robustness: bool = False,
        reference: str | Path | None = None,
        overwrite: bool = False,
    ) -> Evaluation:
        """Score the model on a table with targets, and with every subset of its streams.

        Args:
            rows: A path, a data frame, a list of dicts or a dict of columns.
            media: Folder of relative media paths; by default the table's, else the working folder.
            report: Path of an HTML report to write.
            console: Shows progress; None: quiet.
            robustness: Also measure the scores as streams are removed and corrupted.
            reference: With ``robustness``, a ``compare.json`` whose models, trained without a stream, are compared with its
                removal.
            overwrite: Allow the report to replace a file that is not a report.
        """
        if report is not None:
            report = prepare_output(report, "--report", overwrite=overwrite, reads=[rows])
        table = Table.read(rows, root=media)
        console = console or Console(quiet=True)
        for note in table.notes:
            console.warn(note)
        table = self.windows(table, future=True)
        lacking = [c.name for c in self.schema.targets if not table.has(c.source)]
        if lacking and len(lacking) == len(self.schema.targets) and all(t.goal.targets for t in self.model.tasks.values()):
            raise DataError(f"holds no target column: {', '.join(lacking)}", file=table.source, fix="use predict")
        if absent := missing_columns_note(self.schema, table.source, table.columns):
            console.warn(absent)
        for column in self.schema.targets:
            if table.has(column.source) and (
                lost := missing_values_note(column.name, table.column(column.source), column.spec)
            ):
                console.warn(lost)
        encoded = self.encode(table, console)
        print_problems(console, encoded.problems)
        for line in unseen_value_notes(self.schema, table.rows()):
            console.warn(line)
        evaluation = self.score(encoded)
        if len(self.model.tasks) and not any(target.rows for target in evaluation.targets.values()):
            raise unscored(table, encoded.problems, self.schema)
        if robustness:
            evaluation.robustness = self.robustness(encoded, reference=reference)
        if report is not None:
            self.write_report(report, evaluation, table, encoded, explained=EXPLAINED)
        return evaluation

    def encode(self, table: Table, console: Console | None = None) -> Rows:
        """Encode the rows of ``table``, decoding each media cell once into the store; ``console`` shows progress."""

        from sensorium.data.encoded_rows import encode
        from sensorium.data.store.store import Store

        opener = LocalFiles(table.root or Path.cwd(), anywhere=True)
        step = console.step if console is not None else None
        return encode(self.schema, table, media=opener, store=Store(self.cache), workers=process_cores(), progress=step)

    def batches(self, rows: Rows, batch_size: int = 128) -> Iterator[Batch]:
        """The encoded ``rows`` as prepared batches of ``batch_size``, in order."""
        from sensorium.data.loader import Loader

        device = self.predictor.device
        for batch in Loader(rows, batch_size):
            yield self.schema.prepare(batch.to(device))

    def score(self, rows: Rows) -> Evaluation:
        """The evaluation of encoded ``rows``."""
        from sensorium.evaluation.evaluate import evaluate

        return evaluate(self.predictor.model, self.batches(rows), baselines=self.baselines())

    def robustness(
        self, rows: Any, *, media: str | Path | None = None, reference: str | Path | None = None, most: int = 1000
    ) -> dict[str, Robustness]:
        """Scores by target as each stream is removed from a growing share of the rows and corrupted to a growing degree.

        Args:
            rows: A table with targets, or rows returned by ``encode``.
            media: Folder of relative media paths; by default the table's, else the working folder.
            reference: A ``compare.json``: the best of its models without a stream is shown beside that stream's removal.
            most: Maximum number of rows.
        """
        import json

        from sensorium.data.encoded_rows import Rows
        from sensorium.evaluation.robustness import references, robustness

        encoded = rows if isinstance(rows, Rows) else self.encode(self.windows(Table.read(rows, root=media), future=True))
        model = self.predictor.model
        results = robustness(model, self.schema, encoded, most=most)
        if reference is not None:
            document = json.loads(Path(reference).read_text(encoding="utf-8"))
            for name, target in results.items():
                target.references = references(document, name, target.metric, model.streams)
        return results

    def explain(
        self,
        rows: Any,
        *,
        row: int | None = None,
        sample: int = 100,
        media: str | Path | None = None,
        seed: int = 0,
        out: str | Path | None = None,
        where: bool | None = None,
        explainer: Spec | None = None,
        train: Any = None,
        overwrite: bool = False,
        about: int | str | None = None,
    ) -> Explanation:
        """Attribute answers to streams: exact Shapley values up to eight streams, and the fusion's own weights.

        For a single row, or with ``out`` for the first few, also to the elements within each stream.

        Args:
            rows: A path, a data frame, a list of dicts or a dict of columns.
            row: One row of the table, counted from 1; otherwise ``sample`` random rows.
            sample: Number of rows.
            media: Folder of relative media paths; by default the table's, else the working folder.
            seed: Seed of the sample and of random orders.
            out: Path of an HTML page to write.
            where: Whether to compute maps within streams; None: for a single row, and for a page.
            explainer: The explainer of the maps; None: the default one for each stream.
            train: The training table, to name the rows most similar to each row.
            overwrite: Allow the page to replace a file that is not such a page.
            about: Of one ``row``, the part explained: ``number`` among ``subjects``, ``target:number``, of edges ``x,y``.
        """
        from sensorium.evaluation.feature_maps import feature_maps
        from sensorium.evaluation.stream_attribution import explain
        from sensorium.reporting.explanation import MAPPED, write_explanation

        if out is not None:
            out = prepare_output(out, "--out", overwrite=overwrite, reads=[rows, train])
        table = self.windows(Table.read(rows, root=media))
        if row is not None and not 1 <= row <= len(table):
            raise DataError(f"there is no row {row}: the table has {counted(len(table), 'row')}", file=table.source)
        index = (
            [row - 1] if row is not None else np.sort(np.random.default_rng(seed).permutation(len(table))[:sample]).tolist()
        )
        encoded, numbers = self.encode(table.take(index)), [i + 1 for i in index]
        explanation = explain(self.predictor.model, self.batches(encoded), rows=numbers, seed=seed, about=about)
        if where or (where is None and (row is not None or out is not None)):
            explanation.maps = self.maps(encoded, numbers, most=MAPPED, explainer=explainer, about=about)
            if len(numbers) == 1:
                explanation.features = feature_maps(self.predictor.model, self.schema, next(self.batches(encoded)))
        known = None if train is None else as_windows(Table.read(train), self.recipe.data.windows, training=True)
        if known is not None:
            explanation.nearest = self.nearest(encoded, numbers, known)
        if out is not None:
            from sensorium.reporting.report import cells_of

            shown, like = (None if one is None else cells_of(one, self._kinds) for one in (table, known))
            title = f"{Path(table.source).name}: what each stream did"
            write_explanation(out, explanation, title=title, cells=shown, neighbours=like)
        return explanation

    def maps(
        self, rows: Rows, numbers: Sequence[int], *, most: int = 20, explainer: Spec | None = None, about: Any = None
    ) -> list[Map]:
        """Maps of the first ``most`` ``rows``, ``numbers`` in the table; ``explainer``, ``about`` as in ``explain``."""
        from sensorium.data.loader import Loader
        from sensorium.evaluation.attribution import attribute_elements

        maps = []
        for number, stored in zip(numbers[:most], Loader(rows, 1), strict=False):
            batch = self.schema.prepare(stored.to(self.predictor.device))
            options = {"row": number, "explainer": explainer, "stored": stored, "about": about}
            maps += attribute_elements(self.predictor.model, self.schema, batch, **options)
        return maps

    def nearest(self, rows: Rows, numbers: Sequence[int], train: Table, count: int = 5) -> dict[int, list[Neighbour]]:
        """The ``count`` rows of the table ``train`` most similar to each of the encoded ``rows``, by their ``numbers``."""
        from sensorium.evaluation.nearest_rows import Neighbour, nearest, vectors

        fused, known = (vectors(self.predictor.model, self.batches(part)) for part in (rows, self.encode(train)))
        near, targets = nearest(fused, known, count), [c.name for c in self.schema.targets if train.has(c.name)]
        return {
            number: [Neighbour(i + 1, like, {name: train.row(i)[name] for name in targets}) for i, like in rows_near]
            for number, rows_near in zip(numbers, near, strict=True)
        }

    @property
    def _kinds(self) -> dict[str, str]:
        return {c.name: c.spec["kind"] for c in self.schema.read if c.of is None}

    def write_report(self, path: Path, evaluation: Evaluation, table: Table, rows: Rows, *, explained: int = 0) -> None:
        """Write a self-contained HTML report to ``path``: the ``evaluation`` of the encoded ``rows`` of ``table``.

        ``explained``: how many of the hardest rows of each target are explained.
        """
        from sensorium.reporting.explanation import prediction_html
        from sensorium.reporting.model_card import card
        from sensorium.reporting.report import write_report

        hard = sorted({i for target in evaluation.targets.values() for i in target.hardest(explained)})
        explanation = self.explain(table.take(hard), sample=len(hard), where=True) if hard else None

        def explanation_of(target: str, row: int) -> str:
            return prediction_html(explanation, target, hard.index(row) + 1) if explanation and row in hard else ""

        write_report(
            path,
            evaluation,
            title=Path(table.source).name,
            summary=self.facts(),
            curves=self.history,
            rows=Records(table),
            media=media_opener(table),
            kinds=self._kinds,
            problems=[str(problem) for problem in rows.problems],
            recipe_yaml=portable(self.recipe).to_yaml(),
            explained=explanation_of,
            card=card(
                self.schema,
                evaluation,
                parameters=sum(p.numel() for p in self.model.parameters()),
                fusion=split_spec(self.recipe.model.fusion or "")[0],
                report=self.artifact.report,
            ),
        )

    def facts(self) -> dict[str, str]:
        """Streams, fusion, size and training of the model, by name."""
        return facts(self.artifact)

    def baselines(self) -> dict[str, Any]:
        """The baseline of each task: what the training targets alone determine."""
        return dict(self.artifact.report.get("priors", {}))

    def summary(self) -> str:
        """The scores on the validation rows, in a few lines."""
        valid = self.artifact.report.get("valid", {})
        lines = [f"validation, {counted(valid.get('rows', 0), 'row')}"]
        for name, metrics in valid.get("targets", {}).items():
            lines.append(f"  {name}: " + ", ".join(f"{m} {v:.3f}" for m, v in metrics.items() if v is not None))
        lines += [f"  {finding}" for finding in valid.get("findings", [])]
        return "\n".join(lines)

    def save(self, folder: str | Path) -> Path:
        """Write the model to ``folder`` as JSON, YAML and safetensors."""
        return self.artifact.save(folder)


def load(folder: str | Path, *, device: str = "auto", lm: str | Path | None = None, decoding: Decoding = None) -> Trained:
    """Load a trained model from its ``folder`` onto ``device``; ``lm``: the folder of its language model, if it has one;
    ``decoding``: options of its tasks that only decide how answers are made of outputs, as ``{"beam": 5}``."""
    return Trained(Artifact.load(folder, lm=lm, decoding=decoding), device=device)
