"""A case of hostile input, run in a process of its own with limits on time and memory."""

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
    """A hostile input and a check of how it is handled.

    Args:
        name: Short description of the input.
        run: Function of an empty folder that creates the input and uses it. It raises AssertionError with a message if the
            input is handled wrongly; any other exception counts as a failure too.
        seconds: Time limit, after which the case is stopped and has failed.
        megabytes: Limit on the additional memory of the process.
    """

    name: str
    run: Callable[[Path], None]
    seconds: float = 30.0
    megabytes: int = 512


def attempt(case: Case) -> str:
    """Run a case and return why it failed, or an empty string if it passed."""
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
    # A forked process inherits the recorded peak of its parent, so only the increase is compared with the limit.
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KILOBYTES
    try:
        case.run(folder)
        taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KILOBYTES - before
        message = "" if taken <= case.megabytes else f"took {taken:.0f} MB of memory"
    except AssertionError as error:
        message = str(error) or "an assertion failed"
    except BaseException as error:  # any exception is reported, and the suite goes on
        message = f"{type(error).__name__}: {error} ({traceback.extract_tb(error.__traceback__)[-1].name})"
    sender.send(message)
    sender.close()
