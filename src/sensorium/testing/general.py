"""Checks of components of any family: description, construction, saving."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sensorium.core.registry import describe, find, options, resolve

P = TypeVar("P", bound=nn.Module)
SOURCED = ("encoders", "fusions")


def check_description(family: str, kind: str) -> None:
    """Check the documentation of component ``kind`` of ``family``: a summary line, a description of each option, a
    source, options that are JSON."""
    described = describe(family, kind)
    name = f"{family}/{kind}"
    assert described.summary.strip(), f"{name}: the class has no docstring"
    assert described.summary.endswith((".", "!", "?")), (
        f"{name}: the docstring's first line is not a sentence: {described.summary!r}"
    )
    for option in described.options:
        assert option.text, f"{name}: option {option.name!r} has no entry under Args:"
        assert option.type, f"{name}: option {option.name!r} has no type"
    if family in SOURCED:
        assert "Source: " in described.text, f"{name}: the docstring names no source"
    fields = options(family, kind).model_fields  # resolves the annotations as a recipe does
    assert list(fields) == [option.name for option in described.options], f"{name}: signature and source disagree"
    full = resolve(family, kind)
    assert json.loads(json.dumps(full)) == full, f"{name}: the options are not JSON"
    assert resolve(family, full) == full, f"{name}: resolved options resolve to others"
    assert find(family, kind).__module__.rpartition(".")[2] == kind, f"{name}: the class is not found by its file's name"


def check_module(make: Callable[[], nn.Module], run: Callable[[nn.Module], Any]) -> None:
    """Check a module from ``make``, run by ``run``: no attribute shadows ``nn.Module``, evaluation is deterministic, the
    state dict is complete."""
    part = perturbed(make()).eval()
    for module in part.modules():
        if type(module).__module__.startswith("torch."):
            continue
        names = {*vars(module), *module._parameters, *module._buffers, *module._modules}
        hidden = sorted(n for n in names if not n.startswith("_") and callable(getattr(nn.Module, n, None)))
        assert not hidden, f"{type(module).__name__}: attributes {hidden} hide methods of nn.Module"
    first = run(part)
    assert_same(first, run(part), "two passes in eval differ")
    twin = perturbed(make(), seed=1).eval()
    twin.load_state_dict(part.state_dict())
    assert_same(first, run(twin), "the same state dict gives another output")


def perturbed(part: P, seed: int = 0) -> P:
    """``part`` with all weights perturbed (drawn by ``seed``), so that zero initialisation hides no mistake."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return part


def check_gradients(part: nn.Module, output: Any) -> None:
    """Check that a loss of every tensor in ``output`` gives every parameter of ``part`` a finite gradient."""
    generator = torch.Generator().manual_seed(2)
    loss = torch.zeros(())
    for leaf in tensors(output):
        if leaf.is_floating_point():
            loss = loss + (leaf * torch.randn(leaf.shape, generator=generator)).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    for name, parameter in part.named_parameters():
        if parameter.numel() == 0 or not parameter.requires_grad:
            continue
        assert parameter.grad is not None, f"no gradient reaches {name}"
        assert bool(parameter.grad.isfinite().all()), f"the gradient of {name} is not finite"
        assert bool(parameter.grad.any()), f"the gradient of {name} is zero"


def tensors(value: Any) -> list[Tensor]:
    """All tensors in the structure ``value``, in order."""
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def same(a: Any, b: Any, tolerance: float = 1e-4) -> bool:
    """Whether the structures ``a`` and ``b`` hold equal tensors (within ``tolerance``) and equal other values."""
    left, left_tree = pytree.tree_flatten(a)
    right, right_tree = pytree.tree_flatten(b)
    if left_tree != right_tree or len(left) != len(right):
        return False
    for x, y in zip(left, right, strict=True):
        if isinstance(x, Tensor) != isinstance(y, Tensor):
            return False
        if not isinstance(x, Tensor):
            if x != y:
                return False
        elif not (x.shape == y.shape and x.dtype == y.dtype and near(x, y, tolerance)):
            return False
    return True


def near(x: Tensor, y: Tensor, tolerance: float) -> bool:
    """Whether the tensors ``x`` and ``y`` have one shape and are equal within ``tolerance``."""
    return torch.allclose(x.double(), y.double(), rtol=tolerance, atol=tolerance, equal_nan=True)


def assert_same(a: Any, b: Any, what: str) -> None:
    """Raise ``AssertionError`` with ``what`` unless ``a`` and ``b`` are the same within ``tolerance``."""
    assert same(a, b), what
