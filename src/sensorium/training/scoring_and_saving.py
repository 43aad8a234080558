"""The end of a run: score the trained model, refit it on all rows, and save it with its report."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sensorium.core.batch import Batch
from sensorium.core.forward import Forward
from sensorium.data.files.atomic_write import readable_disk_errors
from sensorium.reporting.console import Console
from sensorium.trained import Trained
from sensorium.training import resume as resumable

if TYPE_CHECKING:
    from sensorium.training.fold_ensemble import FoldEnsemble
    from sensorium.training.prepare import PreparedRun


def score_and_save(
    trained: Trained,
    ready: PreparedRun,
    speed: dict[str, Any],
    folder: Path | None,
    resume: bool,
    searched: bool,
    console: Console,
    folded: FoldEnsemble | None = None,
) -> Trained:
    """Score the model on the validation rows, refit it on all rows, and save it with its report and curves.

    Args:
        trained: The trained model.
        ready: The prepared data.
        speed: The measurements of ``--tune-speed`` for the report; empty for none.
        folder: The run's folder; None writes nothing.
        resume: Whether an interrupted final fit is continued.
        searched: Whether the run is a search; its resume files are then removed rather than marked as finished.
        console: Where notes are printed.
        folded: The fold ensemble that ``trained`` is, if any; its rows are scored out of fold.
    """
    from sensorium.evaluation.evaluate import evaluate
    from sensorium.training.final_fit import refit_on_all_rows

    rows, table = ready.valid, ready.splits.held_out
    passes: Iterable[Batch | Forward] = trained.batches(rows)
    if folded is not None and not ready.separate_valid:
        # Every row was trained on by some network: each is scored by the network that has not seen it.
        rows, table, passes = folded.rows, folded.table, folded.passes()
    evaluation = evaluate(trained.predictor.model, passes, baselines=trained.baselines())
    scores = evaluation.to_json()
    floor = scores.pop("floor", {})
    trained.artifact.report["valid"] = scores
    trained.artifact.report |= {"speed": speed} if speed else {}
    if floor:
        trained.artifact.report["floor"] = floor
    for target in evaluation.targets.values():
        for sentence in target.floor.sentences() if target.floor is not None else ():
            console.note(f"  {target.name}: {sentence}")
    if folder is not None:
        with readable_disk_errors(folder):
            (folder / "logs").mkdir(parents=True, exist_ok=True)  # searches and expert-only runs write no logs
            trained.write_report(folder / "report.html", evaluation, table, rows)
    final = refit_on_all_rows(trained, ready, folder, resume, console)
    if folder is None:
        return final
    from sensorium.reporting.learning_curves import curves_svg

    final.save(folder)
    with readable_disk_errors(folder):
        if final.history:
            curves_svg(final.history, folder / "logs" / "curves.svg")
    # Only after the model is saved: until then, a resume needs the checkpoint.
    (resumable.discard if searched else resumable.mark_finished)(folder)
    return final
