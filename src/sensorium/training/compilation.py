"""A model compiled for speed while it trains, and as it was before once that is over."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from sensorium.core.errors import ConfigError
from sensorium.core.recipe import Training
from sensorium.model import Model


@contextmanager
def compiled_for_training(model: Model, spec: Training) -> Iterator[None]:
    """Within it the model is compiled where the recipe says so. Its weights keep their names."""
    if not spec.compile:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor import config

    # All encoders of a kind share their code, and each counts as a compilation of it.
    tracing = torch._dynamo.config.patch(recompile_limit=64)
    parts = compile_parts(model)
    try:
        # Dropout draws as it does uncompiled, so that compiling changes rounding and nothing else.
        with tracing, config.patch(fallback_random=True), warnings.catch_warnings():
            # Tracing looks at what no user sees.
            warnings.filterwarnings("ignore", message=r"The \.grad attribute of a Tensor that is not a leaf")
            yield
    except TorchDynamoException as error:
        told = str(error).strip().splitlines()[:1]
        raise ConfigError(
            f"training.compile: the model cannot be compiled here: {' '.join(told)}", fix="leave out training.compile"
        ) from error
    finally:
        for part in parts:
            part._compiled_call_impl = None
        torch._dynamo.reset()  # what was compiled for this model counts no more when the next one is


def eager(spec: Training) -> AbstractContextManager[Any]:
    """Within it compiled parts run as they are written: a validation is not worth compiling for."""
    return torch.compiler.set_stance("force_eager") if spec.compile else nullcontext()


def compile_parts(model: Model) -> list[nn.Module]:
    """Compile what takes the time of a step, the encoders and the fusion, in place; the parts that were.

    Rows that lack a stream are left out before its encoder, and lengths differ from batch to batch: so shapes are open.
    """
    parts: list[nn.Module] = [*model.encoders.values(), model.fusion]
    for part in parts:
        part.compile(dynamic=True)
    return parts
