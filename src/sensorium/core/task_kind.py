"""Declarations of task classes, available before a task is instantiated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from sensorium.core.layout import Layout
from sensorium.core.modality import Modality
from sensorium.core.recipe import Spec


class TaskKind:
    """Class attributes and class methods of a task: its target columns, prompts, options and defaults."""

    predicts: ClassVar[tuple[str, ...]]
    """The kinds of column that it predicts; empty: it has no target and learns from the inputs alone."""
    parts: ClassVar[tuple[str, ...]] = ()
    """Names of the columns that together form one target: ``("time", "event")``. Empty: the target is a single column."""
    prompted: ClassVar[Mapping[str, str]] = {}
    """Command-line names of its prompt columns, and the kind that each is read as: ``{"same": "key"}`` for ``--same X``."""
    gathers: ClassVar[str | None] = None
    """The kind of columns that together form one target, in any number (``nose_x, nose_y, tail_x, ...``); empty: inferred
    from the cells. None: several target columns are several targets."""
    conditioned: ClassVar[bool] = False
    """Whether its ``given`` columns are inferred as targets are: whole numbers that repeat are classes."""
    lies_on: ClassVar[tuple[str, ...]] = ()
    """The kinds of input that its targets lie on, for target kinds that do not declare it (numbers)."""
    target_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # default options of its target columns, by kind
    reads_as: ClassVar[str | None] = None
    """Default kind of its target columns; None: inferred from the cells."""
    reads_inputs: ClassVar[Mapping[str, str]] = {}
    """Default kinds in which it reads inputs of other kinds: ``{"image": "line"}``."""
    input_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # default options of its inputs, by kind
    base_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # likewise, of the input that its target lies on
    headline: ClassVar[str]
    """The metric quoted first."""
    higher_is_better: ClassVar[bool] = True
    baseline_name: ClassVar[str] = "knowing the training targets alone"
    """Description of ``baseline`` in reports: "always answering the mean"."""
    per_row: ClassVar[bool] = True
    """False: a row's loss depends on the other rows of its batch (a contrast)."""
    mergeable: ClassVar[bool] = True
    """Whether several outputs for one row can be merged (``merge``). False: late fusion is refused, and no default."""
    fine: ClassVar[bool] = False
    """Whether it answers for each place of the input it lies on, whose default encoder then keeps a fine grid."""
    spans: ClassVar[bool] = False
    """Whether its answers are spans ``[start, end, label]`` along the input that its target lies on."""
    differentiable: ClassVar[bool] = True
    """Whether gradients flow through ``explained``."""
    named_by: ClassVar[str | None] = None
    """The option that chooses this task where a command names no task: ``--lm FOLDER``."""
    needs_streams: ClassVar[bool] = True
    """False: a row without any stream is learnt and scored like others, since its prompt is a text."""
    decoding: ClassVar[tuple[str, ...]] = ()
    """Options that decide how answers are made of outputs, and no weight: they may be changed in a trained model."""
    scored_shuffled: ClassVar[bool] = False
    """Whether it is also scored with the inputs of other rows, as a control for answers that ignore the inputs."""

    @classmethod
    def recommended(
        cls, options: Mapping[str, Any], rows: int, counts: Sequence[int], targets: Sequence[Modality] = ()
    ) -> tuple[dict[str, Any], list[str]]:
        """Recommend options from the training rows, in addition to the ``options`` that are set; return them with reasons.

        ``counts``: the number of rows of each class, if the target has classes; ``targets``: its fitted columns.
        """
        return {}, []

    @classmethod
    def completed(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """``options`` as in ``Encoder.completed``: with all settings written out that pretrained weights determine."""
        return dict(options)

    @classmethod
    def check_sources(cls, options: Mapping[str, Any]) -> None:
        """Check that the pretrained weights that ``options`` name exist and are readable, before a table is read.

        Raises:
            ConfigError: They cannot be used.
        """

    @classmethod
    def continued(
        cls, options: Mapping[str, Any], base: Mapping[str, Any], streams: Sequence[str], pairs: Mapping[str, str]
    ) -> tuple[dict[str, Any], list[str]]:
        """``options`` of a run that starts from a trained task of this kind, with those of ``base`` that decide the shapes
        of what it takes over (``heritable``), and in words what is taken over and what starts afresh.

        By default nothing is taken over: every task starts afresh.

        Args:
            options: As the user set them.
            base: All options of the trained task.
            streams: The streams of the run.
            pairs: The streams whose encoders are taken over, with their names in the base.

        Raises:
            ConfigError: ``options`` ask for other shapes than those of the base, or would lose what it learnt.
        """
        return dict(options), []

    @classmethod
    def suggested_objectives(
        cls, options: Mapping[str, Any], layouts: Mapping[str, Layout]
    ) -> Sequence[str | Mapping[str, Any]]:
        """The default objectives, given its ``options`` and the ``layouts`` of the streams."""
        return ["supervised"]

    @classmethod
    def encoder(cls, layout: Layout, targets: Sequence[Modality]) -> Spec | None:
        """The default encoder of a stream of this ``layout`` for its ``targets``, fitted; None: the usual one of the
        layout."""
        return None

    @classmethod
    def on_windows(cls, season: int, known: Sequence[str]) -> dict[str, Any] | None:
        """Options for windows that ``data.windows`` cuts from a long table; None: it does not learn from windows.

        Args:
            season: Steps of the usual season of its clock.
            known: The columns of a window that hold what is known in advance, step by step.
        """
        return None

    @classmethod
    def base_options(cls, base: str, cells: Mapping[str, Sequence[Any]]) -> tuple[dict[str, Any], str]:
        """Default options of the input that its target lies on, derived from the targets, and the reason in words.

        ``base`` is the kind of that input, ``cells`` are all training cells of each target column, unread.
        """
        return {}, ""
