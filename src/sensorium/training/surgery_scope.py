"""Which streams the surgery of a recipe concerns, and which encoders it freezes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from sensorium.core import registry
from sensorium.core.recipe import Spec


def surgery_for(surgery: Sequence[Spec], streams: Collection[str]) -> list[Spec]:
    """Return the entries of ``surgery`` that concern some of ``streams``, limited to those."""
    kept: list[Spec] = []
    for spec in surgery:
        full = registry.resolve("surgery", spec)
        if full.get("streams") is not None:
            full["streams"] = [stream for stream in full["streams"] if stream in streams]
            if not full["streams"]:
                continue
        kept.append(full)
    return kept


def frozen_streams(surgery: Sequence[Spec], streams: Iterable[str], *, stored: bool = True) -> list[str]:
    """Return those of ``streams`` whose encoders ``surgery`` freezes entirely.

    With ``stored``, only those whose outputs are cached.
    """
    frozen: dict[str, None] = {}
    for spec in surgery:
        full = registry.resolve("surgery", spec)
        if full["kind"] == "freeze" and (full["store"] or not stored) and full["unfreeze"] == 0:
            frozen |= dict.fromkeys(streams if full["streams"] is None else full["streams"])
        elif full["kind"] == "lora":
            for stream in list(frozen) if full["streams"] is None else full["streams"]:
                frozen.pop(stream, None)
    return [stream for stream in frozen if stream in set(streams)]
