"""``python -m benchmarks [name ...] [--smoke] [--json out.json] [--data folder]``"""

from __future__ import annotations

import argparse
import json
import os
import platform
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.measure import Measure, Results, Settings, Skipped

NAMES = (
    *("start", "row", "store", "gather", "epoch", "av_hard", "memory", "front_ends", "encoders", "fusions"),
    *("processes", "scaling", "padding", "serving", "large_pictures", "report", "live", "answers", "columns", "chat"),
)


def run(name: str, settings: Settings) -> Results:
    """The results of one benchmark."""
    results: Results = import_module(f"benchmarks.{name}").run(settings)
    return results


def machine() -> dict[str, Any]:
    """Describe the machine and the versions."""
    import torch

    flags = ""
    model = platform.processor()
    if Path("/proc/cpuinfo").is_file():
        lines = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
        info = {key.strip(): value.strip() for key, value in lines.items()}
        model = info.get("model name", model)
        known = {"avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile"}
        flags = " ".join(flag for flag in info.get("flags", "").split() if flag in known)
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "flags": flags,
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def table(results: Results) -> str:
    """Format the results as a text table."""
    head = ("measure", "ours", "reference", "ratio", "spread", "target", "met")
    lines = [head]
    for r in results:
        if isinstance(r, Skipped):
            lines.append((r.name, "skipped:", r.why, "", "", "", ""))
            continue
        lines.append(
            (
                r.name,
                f"{r.ours:.4g} {r.unit}",
                "" if r.reference is None else f"{r.reference:.4g} {r.unit}",
                "" if r.ratio is None else f"{r.ratio:.2f}",
                "" if r.spread is None else f"{r.spread[0]:.3g} to {r.spread[1]:.3g}",
                r.target,
                "" if r.met is None else "yes" if r.met else "NO",
            )
        )
    widths = [max(len(line[i]) for line in lines if line[1] != "skipped:") for i in range(len(head))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    notes = [f"{r.name}: {r.note}" for r in results if isinstance(r, Measure) and r.note]
    return "\n".join([text[0], "-" * len(text[0]), *text[1:], *([""] if notes else []), *notes])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Cost of sensorium and of references, in one run."
    )
    parser.add_argument("names", nargs="*", help=f"which: {' '.join(NAMES)} [default: all]")
    parser.add_argument("--smoke", action="store_true", help="small and once: does it run?")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--data", type=Path, help="folder of the real data sets", default=Settings().data)
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in NAMES]
    if unknown:
        parser.error(f"no benchmark named {unknown[0]!r}; there are: {', '.join(NAMES)}")
    settings = Settings(arguments.smoke, arguments.data.absolute())
    facts = machine()
    results: Results = []
    for name in arguments.names or NAMES:
        print(f"{name} …", flush=True)
        results += run(name, settings)
    print("  ".join(f"{key}: {value}" for key, value in facts.items()))
    print(table(results))
    if arguments.json is not None:
        document = [r.to_json() if isinstance(r, Measure) else {"name": r.name, "skipped": r.why} for r in results]
        arguments.json.write_text(json.dumps({"machine": facts, "results": document}, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
