"""Many settings of the open parameters tried on the same encoded rows, and the best kept; a stopped search goes on."""

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
"""Settings drawn at random before the sampler learns from what was found; the first of all is the usual one."""


@dataclass(frozen=True)
class Trial:
    """One setting and what came of it. ``score`` is None where nothing could be trained, and ``problem`` says why."""

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
        metric: What is searched for, on the validation rows alone.
        higher: Whether more of it is better.
    """

    metric: str
    higher: bool
    trials: list[Trial]

    @property
    def best(self) -> Trial | None:
        """The trial with the best score; where several have it, the one of the lowest loss, then the first."""
        found = [trial for trial in self.trials if trial.score is not None]
        return max(found, key=self._rank) if found else None

    def _rank(self, trial: Trial) -> tuple[float, float, int]:
        assert trial.score is not None
        return (
            trial.score if self.higher else -trial.score,
            -math.inf if trial.loss is None else -trial.loss,
            -trial.number,
        )

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data."""
        best = self.best
        return {
            "metric": self.metric,
            "higher_is_better": self.higher,
            "best": None if best is None else best.number,
            "trials": [asdict(trial) for trial in self.trials],
        }

    def text(self) -> str:
        """The trials as a table, best first."""
        ranked = sorted((t for t in self.trials if t.score is not None), key=self._rank, reverse=True)
        failed = [trial for trial in self.trials if trial.score is None]
        parameters = list(self.trials[0].setting) if self.trials else []
        lines = [("trial", self.metric, *parameters, "epochs", "time")]
        for trial in (*ranked, *failed):
            score = "failed" if trial.score is None else f"{trial.score:.4f}"
            told = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in (trial.setting[name] for name in parameters)]
            lines.append((str(trial.number), score, *told, str(trial.epochs), span(trial.seconds)))
        note = (
            f"{len(self.trials)} trials, ranked on the validation rows that chose them: "
            "the best score there is flattering; sensorium evaluate on other rows tells how good the model is"
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
    """The best model of so many trials, each trained by ``train`` and scored on the rows ``valid``.

    Settings are proposed by a tree-structured Parzen estimator (optuna), each a function of the seed and of the trials
    before it; the first is what would be trained without a search. Every finished trial is in ``out/search.json`` and the
    best model in ``out/search``, so the same call goes on where it was stopped, or further where more trials are asked
    for. Interrupted, the best so far is the result. ``training.time_limit`` is for all trials together.
    Source: Bergstra et al., Algorithms for hyper-parameter optimization, NeurIPS 2011.
    """
    if trials < 1:
        raise ConfigError(f"{trials} trials are no search", fix="--search 20")
    limit = plan.training.time_limit
    plan = plan.model_copy(update={"training": plan.training.model_copy(update={"time_limit": None})})
    found = search_space(plan, schema, len(rows), classes)
    console.note("searching: " + "; ".join(map(str, found.parameters)))
    log = TrialLog(out, _identity(found, rows, valid), _empty_search(found))
    ask = _sampler(found, log.search, plan.seed)
    try:
        while len(log.search.trials) < trials:
            number = len(log.search.trials)
            best = log.search.best
            said = "" if best is None or best.score is None else f"best {log.search.metric} {best.score:.4f}"
            console.step("searching", number, trials, f"trial {number + 1} of {trials}  {said}")
            spent = sum(trial.seconds for trial in log.search.trials)
            if limit is not None and spent >= limit and best is not None:
                console.note(f"the time is over after {number} trials")
                break
            share = None if limit is None else max(limit - spent, 0.001) / (trials - number)
            log.add(*_run_trial(found, number, ask(), share, valid, train))
        console.step("searching", 1, 1)
    except KeyboardInterrupt:
        if log.search.best is None:
            raise
        console.warn(f"stopped after {len(log.search.trials)} trials: the best of them is kept; the same command goes on")
    if log.search.best is None:
        raise SensoriumError(f"no trial could be trained; the first: {log.search.trials[0].problem}")
    console.note(log.search.text())
    trained = log.model(store)
    trained.artifact.report["search"] = log.search.to_json()
    return trained


class TrialLog:
    """The finished trials, and the model of the best: in memory, and in a folder where there is one."""

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
                    fix="give the same command to go on; or name another --out; or replace it: --overwrite",
                )
            self.search.trials = [Trial(**trial) for trial in document["trials"]]

    def add(self, trial: Trial, trained: Trained | None) -> None:
        """Keep a trial: first its model where it is the best, then the line, so that a line means a model."""
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
        """The model of the best trial."""
        if self._best is None:
            assert self.search.best is not None, "there is a best trial"
            self._best = Trained(Artifact.load(self._folder(self.search.best)), cache=store.folder)
        return self._best

    def _folder(self, trial: Trial) -> Path:
        assert self.out is not None, "only a search on disk has folders"
        return self.out / "search" / f"trial-{trial.number}"


def _run_trial(
    found: SearchSpace,
    number: int,
    setting: Setting,
    seconds: float | None,
    valid: encoded.Rows,
    train: Callable[[Recipe, Schema], Trained],
) -> tuple[Trial, Trained | None]:
    """One setting trained and scored."""
    began = time.monotonic()
    try:
        plan, schema = found.at(setting)
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
        (one,) = score_rows(trained, valid).each.values()
        score = one.scores()[one.task.headline]
    problem = None
    if score is None or not math.isfinite(score):
        score, problem = None, "it has no score on the validation rows"
    seconds = round(time.monotonic() - began, 2)
    return Trial(number, setting, score, loss, len(trained.history), seconds, problem), trained


def _empty_search(found: SearchSpace) -> Search:
    """A search without trials: the first metric of the target, or the loss where there are several targets."""
    usual, _ = found.at(found.usual)
    if len(usual.model.tasks) > 1:
        return Search("loss", False, [])
    (spec,) = usual.model.tasks.values()
    task = registry.find("tasks", registry.split(spec)[0])
    return Search(task.headline, task.higher_is_better, [])


def _sampler(found: SearchSpace, search: Search, seed: int) -> Callable[[], Setting]:
    """Proposes the next setting from the trials so far. The same seed and the same trials propose the same."""
    with _quiet():
        try:
            import optuna
        except ImportError:
            raise MissingExtraError("a search (--search, --quality best)", "tune") from None
    distributions: dict[str, Any] = {
        parameter.name: optuna.distributions.CategoricalDistribution(parameter.choices)
        if parameter.choices
        else optuna.distributions.FloatDistribution(parameter.low, parameter.high, log=parameter.log)
        for parameter in found.parameters
    }

    def ask() -> Setting:
        if not search.trials:
            return found.usual
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            with _quiet():
                # Built anew from the finished trials each time, with a seed of its own: nothing hangs on what a process
                # that was killed had drawn before.
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

    return ask


@contextmanager
def _quiet() -> Iterator[None]:
    """Warnings that a sampler is experimental are for its own users; errors still come through."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="optuna")
        yield


def _identity(found: SearchSpace, rows: encoded.Rows, valid: encoded.Rows) -> str:
    """What two calls must share to be one search: all but how many trials and how much time."""
    told = [
        found.plan.model_dump(exclude={"data"}),
        found.schema.to_json(),
        [asdict(parameter) for parameter in found.parameters],
    ]
    h = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for part in (rows, valid):
        h.update(json.dumps(part.contents()).encode())
    return h.hexdigest()[:16]
