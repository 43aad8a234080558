"""``python -m benchmarks.hostile [area ...] [--only WORDS]``: run the cases of hostile input and list those that failed."""

from __future__ import annotations

import argparse
import pkgutil
import sys
from importlib import import_module

import benchmarks.hostile as suite
from benchmarks.hostile.case import Case, attempt

_FILES = (module.name for module in pkgutil.iter_modules(suite.__path__))
AREAS = tuple(sorted(name for name in _FILES if name not in ("case", "__main__")))
"""Each area is a module with a function ``cases()`` that returns its cases."""


def main(argv: list[str] | None = None) -> int:
    """Run the cases of the areas; return 0 if all passed, else 1."""
    parser = argparse.ArgumentParser(prog="benchmarks.hostile", description=__doc__)
    parser.add_argument("areas", nargs="*", metavar="area", help=f"of {', '.join(AREAS)}; all by default")
    parser.add_argument("--only", default="", help="only cases whose name contains these words")
    arguments = parser.parse_intermixed_args(argv)
    unknown = [area for area in arguments.areas if area not in AREAS]
    if unknown:
        parser.error(f"no area {unknown[0]!r}: there are {', '.join(AREAS)}")
    failed = 0
    for area in arguments.areas or AREAS:
        every: list[Case] = list(import_module(f"benchmarks.hostile.{area}").cases())
        cases = [case for case in every if arguments.only in case.name]
        held = 0
        for case in cases:
            wrong = attempt(case)
            held += not wrong
            if wrong:
                print(f"{area}: {case.name}: {wrong}", flush=True)
        failed += len(cases) - held
        print(f"{area}: {len(cases)} tried, {held} held", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
