"""One hostile input, tried in a process of its own with a limit on its time and memory."""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

_KILOBYTES = 1024  # of ru_maxrss, on Linux


class Case(NamedTuple):
    """A hostile input and what must hold when it is met.

    Args:
        name: What is hostile about it, in a few words.
        run: Given an empty folder, makes the input and meets it. Raises AssertionError, in words, where something does not
            hold; any other exception counts as not held too.
        seconds: After so long it is stopped and does not hold.
        megabytes: Memory that it may take beyond what the process had before.
    """

    name: str
    run: Callable[[Path], None]
    seconds: float = 30.0
    megabytes: int = 512


def attempt(case: Case) -> str:
    """Why a case does not hold, in words; empty where it does."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        process = context.Process(target=_child, args=(case, Path(folder), sender))
        process.start()
        sender.close()
        try:
            if not receiver.poll(case.seconds):
                return f"still running after {case.seconds:g} s"
            message: str = receiver.recv()
        except EOFError:
            process.join()
            return f"the process died: exit code {process.exitcode}"
        finally:
            process.kill()
            process.join()
            receiver.close()
    return message


def _child(case: Case, folder: Path, sender: Connection) -> None:
    # A forked process starts with its parent's peak on record: what counts is what it adds to that.
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KILOBYTES
    try:
        case.run(folder)
        taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KILOBYTES - before
        predicted = "" if taken <= case.megabytes else f"took {taken:.0f} MB of memory"
    except AssertionError as error:
        predicted = str(error) or "an assertion failed"
    except BaseException as error:  # whatever it raises, the suite goes on and tells it
        predicted = f"{type(error).__name__}: {error} ({traceback.extract_tb(error.__traceback__)[-1].name})"
    sender.send(predicted)
    sender.close()
