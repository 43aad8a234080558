"""Compilation of a model for the duration of its training."""

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
    """Context in which ``model`` is compiled, if ``spec`` says so; weights keep their names.

    Raises:
        ConfigError: The model cannot be compiled here.
    """
    if not spec.compile:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor import config

    # All encoders of a kind share code, and each counts as a recompilation of it.
    tracing = torch._dynamo.config.patch(recompile_limit=64)
    parts = compile_parts(model)
    try:
        # Dropout draws the same numbers as uncompiled, so that compiling changes nothing but rounding.
        with tracing, config.patch(fallback_random=True), warnings.catch_warnings():
            # Tracing reads attributes that warn.
            warnings.filterwarnings("ignore", message=r"The \.grad attribute of a Tensor that is not a leaf")
            yield
    except TorchDynamoException as error:
        message = str(error).strip().splitlines()[:1]
        raise ConfigError(
            f"training.compile: the model cannot be compiled here: {' '.join(message)}", fix="leave out training.compile"
        ) from error
    finally:
        for part in parts:
            part._compiled_call_impl = None
        torch._dynamo.reset()  # so that it does not count towards the recompile limit of the next model


def eager(spec: Training) -> AbstractContextManager[Any]:
    """Context in which compiled parts run uncompiled, if ``spec`` compiles: validation is not worth compiling for."""
    return torch.compiler.set_stance("force_eager") if spec.compile else nullcontext()


def compile_parts(model: Model) -> list[nn.Module]:
    """Compile encoders and fusion of ``model`` in place, which take most of the time of a step; return them.

    Shapes are dynamic: rows without a stream skip its encoder, and lengths differ between batches.
    """
    parts: list[nn.Module] = [*model.encoders.values(), model.fusion]
    for part in parts:
        part.compile(dynamic=True)
    return parts
