"""READ FIRST: the contracts of a model's components; of tasks in ``core/task.py``, of modalities in ``core/modality.py``.

    cell ─Modality→ array ─collate, prepare→ Field ─Encoder→ Encoded ─Adapter→ Encoded ─Fusion→ Encoded
         ─Task→ output ─answers→ value

Invariants, which ``sensorium.testing`` checks for every component:

* An encoder sees only rows that have the stream. Its tokens are zero where masked; more padding changes nothing.
* An adapter preserves ``present`` and zeros.
* A fusion does not depend on the contents of absent rows or on the order of the mapping; a row without any stream gives
  finite zeros.
* A task's loss is ``[B]``, unreduced: tasks know no trainer, no weights and no missing rows.

An attribute of a module must not be named like a method of ``nn.Module`` (``to``, ``type``, ``half``): it would shadow it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from sensorium.core.batch import Encoded, Field
from sensorium.core.errors import ConfigError, nearest
from sensorium.core.layout import Layout
from sensorium.core.module_dict import NamedModules
from sensorium.core.pyramid_level import Level
from sensorium.core.task import Task


class Encoder(nn.Module, ABC):
    """Maps data of one layout to tokens. It receives only rows that have the stream.

    The first positional parameter is the ``Layout``; ``dim`` is the width of the result. Tokens of a grid or a sequence
    state its shape in ``Encoded.grid``.
    """

    reads: ClassVar[tuple[type[Layout], ...]]
    dim: int
    gives_pyramid: bool = False
    """Whether ``forward`` fills ``Encoded.pyramid``: set on an instance that has ``levels``, by a task that needs them."""

    @property
    def levels(self) -> tuple[Level, ...]:
        """The feature maps that it can return in addition to tokens, from fine to coarse; empty if it has none."""
        return ()

    @classmethod
    def required_column(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the column options (including ``kind``) that a pretrained encoder with ``options`` requires; called before
        columns are fitted.

        The user's options of the column take precedence. Empty for an encoder without requirements.
        """
        return {}

    @classmethod
    def completed(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``options`` with everything that a checkpoint determines written out, so that a saved model is
        self-contained. Called once, by ``fit``."""
        return dict(options)

    def adopt(self) -> None:
        """Load the weights of the checkpoint that the options name, if any. Called once, before ``fit``."""

    def recompute(self) -> bool:
        """As ``Task.recompute``."""
        return False

    def fit(self, fields: Iterable[Field]) -> None:
        """Fit data-dependent state on the training rows before training: document frequencies, word vectors, quantiles.

        ``fields`` are batches from ``prepare``, not augmented, of rows that have the stream; they can be iterated only
        once. The state is stored in parameters and buffers whose shapes the constructor determines, so that a saved model
        needs nothing else.
        """

    def notes(self) -> str:
        """Return a note for the user on what ``fit`` learnt, or an empty text."""
        return ""

    @abstractmethod
    def forward(self, data: Tensor, mask: Tensor | None = None) -> Encoded:
        """Encode ``data`` with ``mask``, in the shapes of the layout; all rows of the result are present."""


class TokenEncoder(Encoder):
    """An encoder in two steps, so that a masked objective can hide tokens between them."""

    @abstractmethod
    def embed(self, data: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return token embeddings of ``data`` before any attention, ``[B, N, D]``, and which are real ``[B, N]``; ``mask``
        as in ``forward``."""

    @abstractmethod
    def trunk(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return the transformed ``tokens`` ``[B, N, D]``; zero where ``mask`` ``[B, N]`` is False."""


class Adapter(nn.Module, ABC):
    """Maps encodings to the model's width. Positional parameters: width in, width out."""

    def __init__(self, dim_in: int, dim: int) -> None:
        super().__init__()
        self.dim_in, self.dim = dim_in, dim

    @abstractmethod
    def forward(self, part: Encoded) -> Encoded:
        """Return the same rows with ``D = dim`` and the same pyramid; possibly with fewer tokens and another ``grid`` or
        none."""


class Fusion(nn.Module, ABC):
    """Fuses several streams into one. Positional parameters: the streams' names in the model's order, and the width."""

    adopted: ClassVar[tuple[str, ...]] = ()
    """Prefixes of the names of weights that ``adopt`` loads; these learn slowly."""

    def __init__(self, streams: Sequence[str], dim: int) -> None:
        super().__init__()
        self.streams, self.dim = tuple(streams), dim

    @classmethod
    def completed(cls, options: Mapping[str, Any], layouts: Mapping[str, Layout]) -> dict[str, Any]:
        """Return ``options`` completed as in ``Encoder.completed``; ``layouts`` are those of the encoded streams."""
        return dict(options)

    def adopt(self) -> None:
        """As ``Encoder.adopt``."""

    @abstractmethod
    def forward(self, parts: Mapping[str, Encoded]) -> Encoded:
        """Return one encoding of every row from all streams; any stream may be missing in any row."""

    def weights(self, parts: Mapping[str, Encoded]) -> dict[str, Tensor]:
        """Return interpretable weights of the fusion for ``parts``; empty if it has none.

        ``"share"`` ``[B, S]``: the weight of each stream, summing to 1 over the streams present. Further names are the
        fusion's own: ``"gate"`` ``[B, S, D]``, ``"attention"`` ``[B, N, N]``.
        """
        return {}

    def answering(self, make: Callable[[], Task[Any]]) -> Task[Any]:
        """Return the task that answers one target on this fusion: ``make()``, unless each stream answers by itself."""
        return make()


class Operable(Protocol):
    """A model in parts, as ``sensorium.model.Model`` is."""

    encoders: NamedModules[Encoder]
    adapters: NamedModules[Adapter]
    fusion: Fusion


class Surgery(ABC):
    """A change to a whole model, applied after pretrained weights are loaded and before training.

    It is recorded in the recipe and applied again when the model is loaded, before the saved weights are read. It must
    therefore depend on its options only, may add parameters (which are saved) and must not rename existing ones.
    """

    @abstractmethod
    def apply(self, model: Operable) -> None:
        """Change ``model`` in place."""


def chosen_streams(model: Operable, streams: Sequence[str] | None, kind: str) -> list[str]:
    """The ``streams`` of ``model`` that the surgery ``kind`` applies to; None: all."""
    for stream in streams or ():
        if stream not in model.encoders:
            raise ConfigError(f"{kind}: no stream named {stream!r}{nearest(stream, list(model.encoders))}")
    return list(model.encoders) if streams is None else list(streams)
