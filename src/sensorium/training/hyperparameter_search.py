"""Hyperparameter search over the open settings of a recipe, on the same encoded rows; resumable."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sensorium.artifact import Artifact
from sensorium.core import registry
from sensorium.core.errors import ConfigError, MissingExtraError, SensoriumError
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Schema
from sensorium.core.text_columns import columns
from sensorium.data import encoded_rows as encoded
from sensorium.data.store.store import Store
from sensorium.reporting.console import Console, span
from sensorium.trained import Trained
from sensorium.training.lightning_module import step_seed
from sensorium.training.scored_rows import score_rows
from sensorium.training.search_space import SearchSpace, Setting, search_space

RANDOM = 8
"""Settings drawn at random before the sampler learns from results; the very first is the default setting."""


@dataclass(frozen=True)
class Trial:
    """One trial: its setting, score and cost.

    ``score`` is None where training failed or gave no finite score; ``problem`` says why.
    """

    number: int
    setting: Setting
    score: float | None
    loss: float | None
    epochs: int
    seconds: float
    problem: str | None = None


@dataclass
class Search:
    """The trials of a search.

    Args:
        metric: The metric to optimise, on the validation rows.
        higher: Whether higher is better.
        trials: The finished trials.
    """

    metric: str
    higher: bool
    trials: list[Trial]

    @property
    def best(self) -> Trial | None:
        """The trial with the best score; ties are broken by lower loss, then by number."""
        scored = [trial for trial in self.trials if trial.score is not None]
        return max(scored, key=self._rank) if scored else None

    def _rank(self, trial: Trial) -> tuple[float, float, int]:
        assert trial.score is not None
        return (
            trial.score if self.higher else -trial.score,
            -math.inf if trial.loss is None else -trial.loss,
            -trial.number,
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        best = self.best
        return {
            "metric": self.metric,
            "higher_is_better": self.higher,
            "best": None if best is None else best.number,
            "trials": [asdict(trial) for trial in self.trials],
        }

    def text(self) -> str:
        """Return the trials as a table, best first."""
        ranked = sorted((t for t in self.trials if t.score is not None), key=self._rank, reverse=True)
        failed = [trial for trial in self.trials if trial.score is None]
        parameters = list(self.trials[0].setting) if self.trials else []
        lines = [("trial", self.metric, *parameters, "epochs", "time")]
        for trial in (*ranked, *failed):
            score = "failed" if trial.score is None else f"{trial.score:.4f}"
            values = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in (trial.setting[name] for name in parameters)]
            lines.append((str(trial.number), score, *values, str(trial.epochs), span(trial.seconds)))
        note = (
            f"{len(self.trials)} trials, ranked on the validation rows that chose them: "
            "the best score is optimistic; run sensorium evaluate on other rows for an unbiased one"
        )
        return "\n".join([*columns(lines), *(f"trial {t.number} failed: {t.problem}" for t in failed), note])


def run_search(
    plan: Recipe,
    schema: Schema,
    rows: encoded.Rows,
    valid: encoded.Rows,
    store: Store,
    classes: Mapping[str, Sequence[int]],
    trials: int,
    out: Path | None,
    console: Console,
    train: Callable[[Recipe, Schema], Trained],
) -> Trained:
    """Return the best model of a search.

    Settings are proposed by a tree-structured Parzen estimator (optuna), each a function of the seed and of the trials
    before it; the first is the default setting. Finished trials are recorded in ``out/search.json`` and the best model in
    ``out/search``, so that the same call resumes a stopped search, or extends it if more trials are asked for. If
    interrupted, the best trial so far is returned. Source: Bergstra et al., Algorithms for hyper-parameter optimization,
    NeurIPS 2011.

    Args:
        plan: The recipe with settings left open; ``training.time_limit`` is for all trials together.
        schema: The fitted columns.
        rows: Encoded training rows; ``valid`` are the validation rows that trials are scored on.
        store: The cache of decoded media.
        classes: Training rows of each class, by target.
        trials: The number of trials.
        out: The run's folder; None keeps the search in memory.
        console: Where progress is printed.
        train: Trains a model from a resolved recipe and fitted columns.

    Raises:
        ConfigError: Nothing is left open to search, or ``out`` holds another search.
        SensoriumError: No trial could be trained.
    """
    if trials < 1:
        raise ConfigError(f"a search needs at least one trial, not {trials}", fix="--search 20")
    limit = plan.training.time_limit
    plan = plan.model_copy(update={"training": plan.training.model_copy(update={"time_limit": None})})
    space = search_space(plan, schema, len(rows), classes)
    console.note("searching: " + "; ".join(map(str, space.parameters)))
    log = TrialLog(out, _identity(space, rows, valid), _empty_search(space))
    propose = _sampler(space, log.search, plan.seed)
    try:
        while len(log.search.trials) < trials:
            number = len(log.search.trials)
            best = log.search.best
            state = "" if best is None or best.score is None else f"best {log.search.metric} {best.score:.4f}"
            console.step("searching", number, trials, f"trial {number + 1} of {trials}  {state}")
            spent = sum(trial.seconds for trial in log.search.trials)
            if limit is not None and spent >= limit and best is not None:
                console.note(f"time limit reached after {number} trials")
                break
            share = None if limit is None else max(limit - spent, 0.001) / (trials - number)
            log.add(*_run_trial(space, number, propose(), share, valid, train))
        console.step("searching", 1, 1)
    except KeyboardInterrupt:
        if log.search.best is None:
            raise
        console.warn(f"stopped after {len(log.search.trials)} trials: the best of them is kept; the same command resumes")
    if log.search.best is None:
        raise SensoriumError(f"no trial could be trained; the first failed with: {log.search.trials[0].problem}")
    console.note(log.search.text())
    trained = log.model(store)
    trained.artifact.report["search"] = log.search.to_json()
    return trained


class TrialLog:
    """The finished trials and the model of the best: in memory, and in a folder if there is one."""

    def __init__(self, out: Path | None, identity: str, empty: Search) -> None:
        self.out, self.identity, self.search = out, identity, empty
        self._best: Trained | None = None
        path = None if out is None else out / "search.json"
        if path is not None and path.is_file():
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["search"] != identity:
                raise ConfigError(
                    "the folder holds another search: its rows, its recipe or its seed differ",
                    file=path,
                    fix="give the same command to resume; or name another --out; or replace it: --overwrite",
                )
            self.search.trials = [Trial(**trial) for trial in document["trials"]]

    def add(self, trial: Trial, trained: Trained | None) -> None:
        """Record ``trial`` with its model ``trained``: the model is saved before the line, so that a line implies a
        model.
        """
        before = self.search.best
        self.search.trials.append(trial)
        better = self.search.best is trial
        if better:
            self._best = trained
        if self.out is None:
            return
        if better and trained is not None:
            trained.save(self._folder(trial))
        part = self.out / ".search.json.part"
        self.out.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"search": self.identity, **self.search.to_json()}, indent=1), encoding="utf-8")
        os.replace(part, self.out / "search.json")
        if better and before is not None:
            shutil.rmtree(self._folder(before), ignore_errors=True)

    def model(self, store: Store) -> Trained:
        """Return the model of the best trial; ``store`` is the cache of decoded media."""
        if self._best is None:
            assert self.search.best is not None, "there is a best trial"
            self._best = Trained(Artifact.load(self._folder(self.search.best)), cache=store.folder)
        return self._best

    def _folder(self, trial: Trial) -> Path:
        assert self.out is not None, "only a search on disk has folders"
        return self.out / "search" / f"trial-{trial.number}"


def _run_trial(
    space: SearchSpace,
    number: int,
    setting: Setting,
    seconds: float | None,
    valid: encoded.Rows,
    train: Callable[[Recipe, Schema], Trained],
) -> tuple[Trial, Trained | None]:
    """Train and score one setting."""
    began = time.monotonic()
    try:
        plan, schema = space.at(setting)
        if seconds is not None:
            training = plan.training.model_copy(update={"time_limit": round(seconds, 3)})
            plan = plan.model_copy(update={"training": training})
        trained = train(plan, schema)
    except SensoriumError as error:
        return Trial(number, setting, None, None, 0, time.monotonic() - began, error.problem), None
    losses = [record["valid_loss"] for record in trained.history if math.isfinite(record["valid_loss"])]
    loss = min(losses) if losses else None
    score: float | None = loss
    if len(trained.model.tasks) == 1:
        (tally,) = score_rows(trained, valid).each.values()
        score = tally.scores()[tally.task.headline]
    problem = None
    if score is None or not math.isfinite(score):
        score, problem = None, "it has no score on the validation rows"
    seconds = round(time.monotonic() - began, 2)
    return Trial(number, setting, score, loss, len(trained.history), seconds, problem), trained


def _empty_search(space: SearchSpace) -> Search:
    """Return a search without trials, by the headline metric of the target, or by the loss for several targets."""
    usual, _ = space.at(space.usual)
    if len(usual.model.tasks) > 1:
        return Search("loss", False, [])
    (spec,) = usual.model.tasks.values()
    task = registry.find("tasks", registry.split(spec)[0])
    return Search(task.headline, task.higher_is_better, [])


def _sampler(space: SearchSpace, search: Search, seed: int) -> Callable[[], Setting]:
    """Return a function that proposes the next setting, determined by the seed and the trials so far."""
    with _quiet():
        try:
            import optuna
        except ImportError:
            raise MissingExtraError("a search (--search, --quality best)", "tune") from None
    distributions: dict[str, Any] = {
        parameter.name: optuna.distributions.CategoricalDistribution(parameter.choices)
        if parameter.choices
        else optuna.distributions.FloatDistribution(parameter.low, parameter.high, log=parameter.log)
        for parameter in space.parameters
    }

    def propose() -> Setting:
        if not search.trials:
            return space.usual
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            with _quiet():
                # Rebuilt from the finished trials each time, with its own seed, so that a resumed search does not
                # depend on what the stopped process had drawn.
                sampler = optuna.samplers.TPESampler(
                    n_startup_trials=RANDOM, seed=step_seed(seed, len(search.trials)) % 2**32, multivariate=False
                )
                study = optuna.create_study(direction="maximize" if search.higher else "minimize", sampler=sampler)
                for trial in search.trials:
                    failed = trial.score is None
                    study.add_trial(
                        optuna.trial.create_trial(
                            params=trial.setting,
                            distributions=distributions,
                            values=None if trial.score is None else [trial.score],
                            state=optuna.trial.TrialState.FAIL if failed else optuna.trial.TrialState.COMPLETE,
                        )
                    )
                return dict(study.ask(distributions).params)
        finally:
            optuna.logging.set_verbosity(verbosity)

    return propose


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence optuna's warnings about experimental features; errors still come through."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="optuna")
        yield


def _identity(space: SearchSpace, rows: encoded.Rows, valid: encoded.Rows) -> str:
    """Return the hash that two calls must share to be the same search: all but the number of trials and the time limit."""
    document = [
        space.plan.model_dump(exclude={"data"}),
        space.schema.to_json(),
        [asdict(parameter) for parameter in space.parameters],
    ]
    h = hashlib.sha256(json.dumps(document, sort_keys=True).encode())
    for part in (rows, valid):
        h.update(json.dumps(part.contents()).encode())
    return h.hexdigest()[:16]
