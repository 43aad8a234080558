"""From one training stage of a multimodal language model to the next: the options and weights that are taken over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sensorium.core.borrowed_weights import parted
from sensorium.core.errors import ConfigError, listed

FUSED = "fused"
UPDATES, WEIGHTS = "low-rank update", "weights of the language model"


def continued_options(
    options: Mapping[str, Any], base: Mapping[str, Any], streams: Sequence[str], pairs: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """Return ``options`` of a conversation that starts from one trained with the options ``base``, and a note.

    ``streams`` are those of the run, ``pairs`` those whose encoders are taken over; all as in ``Task.continued``.
    """
    if not parted(options.get("lm"))[0] and parted(base["lm"])[0]:
        raise ConfigError(
            f"names no language model, and the base was trained on {parted(base['lm'])[0]!r}", fix="--lm FOLDER"
        )
    updated_before = base["stage"] == "instruct"
    trained = WEIGHTS if (base if updated_before else options).get("tuning") == "full" else UPDATES
    if updated_before and options.get("stage", "instruct") != "instruct":
        raise ConfigError(
            f"stage align would lose the {trained} that the base has",
            fix="--stage instruct, or add it to the language model first: sensorium merge BASE, then --init and --lm "
            "with what it wrote",
        )
    kept = ["projector", "lay"]
    kept += ["tokens"] if base["projector"] == "resampler" else []
    if updated_before:
        kept += ["stage", "tuning", "targets", *(["rank"] if trained == UPDATES else [])]
    for key in kept:
        if options.get(key, base[key]) != base[key]:
            raise ConfigError(
                f"{key} is {options[key]!r}, and the base was trained with {base[key]!r}",
                fix=f"leave out --{key}, or start without --init",
            )
    known, fresh = [stream for stream in streams if stream in pairs], [stream for stream in streams if stream not in pairs]
    taken = ["projector of the fused tokens" if base["lay"] == FUSED else f"projectors of {listed(known)}"]
    new = [f"projectors of {listed(fresh)}"] if fresh and base["lay"] != FUSED else []
    if updated_before:
        taken.append(trained)
    elif options.get("stage") == "instruct" and trained == UPDATES:
        new.append(trained)
    note = f"{' and '.join(taken)} taken over" + (f"; {' and '.join(new)} starting afresh" if new else "")
    return {**options, **{key: base[key] for key in kept}}, [note]
