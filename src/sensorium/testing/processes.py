"""Groups of forked processes that communicate, for tests and measurements."""

from __future__ import annotations

import json
import os
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


def forked(count: int, work: Callable[[Any], Any]) -> list[Any]:
    """The results, by rank, of ``work`` in ``count`` forked processes; a single one is forked too.

    Forked from this process, which has paid for the imports: it must not have used a GPU or started threads. ``work`` takes
    the ``ProcessGroup`` and returns plain JSON. Linux only.

    Raises:
        RuntimeError: One of them failed; its traceback is on standard error.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    from sensorium.training import launch
    from sensorium.training.process_group import ProcessGroup

    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        store = TCPStore("127.0.0.1", 0, count, True, wait_for_workers=False)
        children = []
        for rank in range(count):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    if count == 1:
                        result = work(ProcessGroup())
                    else:
                        ranks = ProcessGroup(rank, count, rank)
                        with launch.initialised(ranks, TCPStore("127.0.0.1", store.port, count, False)):
                            result = work(ranks)
                    (at / f"{rank}.json").write_text(json.dumps(result))
                    code = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(code)
            children.append(child)
        ends = [os.waitpid(child, 0)[1] for child in children]
        if any(ends):
            raise RuntimeError("a process failed: its traceback is above")
        return [json.loads((at / f"{rank}.json").read_text()) for rank in range(count)]
