"""How several processes come to train one model: started here on one machine, or by torchrun or SLURM on many.

Each process runs ``fit`` from its beginning: the table is read by all, media are decoded by one (the others wait for the
store and find them done), and they meet where the training begins. The first writes and speaks. ``fit`` on one machine
starts the others when all is decoded, each with what it was itself asked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sensorium.core.errors import ConfigError, SensoriumError
from sensorium.core.recipe import Recipe, Training

if TYPE_CHECKING:
    from sensorium.training.process_group import ProcessGroup
    from sensorium.training.training_request import Request

WORKER = "SENSORIUM_WORKER"
"""Set in a process that ``fit`` started: the port at which the first one listens."""
LIMIT = timedelta(minutes=30)
"""How long one waits for another: a large table may be read faster in one place than in the other."""


def process_place() -> tuple[int, int, int, int] | None:
    """Rank, their number, rank on this machine, and machines, where something started several processes; else None."""
    env = os.environ
    if all(name in env for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")):  # torchrun, and our own
        count = int(env["WORLD_SIZE"])
        found = int(env["RANK"]), count, int(env["LOCAL_RANK"]), max(1, count // int(env.get("LOCAL_WORLD_SIZE", count)))
    elif all(name in env for name in ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")) and "SLURM_STEP_ID" in env:
        count, machines = int(env["SLURM_NTASKS"]), int(env.get("SLURM_NNODES", "1"))
        found = int(env["SLURM_PROCID"]), count, int(env["SLURM_LOCALID"]), machines
    else:
        return None
    return found if count > 1 else None


def first() -> bool:
    """Whether this process is the one that writes and speaks."""
    found = process_place()
    return found is None or found[0] == 0


def with_processes(plan: Recipe) -> Recipe:
    """The recipe with the processes that were started around this one; refused where it says otherwise."""
    found = process_place()
    if found is None:
        return plan
    _, count, _, machines = found
    if count % machines:
        raise ConfigError(f"{count} processes on {machines} machines: there must be as many on each")
    told = plan.training.devices, plan.training.nodes
    real = count // machines, machines
    if told not in ((1, 1), real):
        raise ConfigError(
            f"training.devices is {told[0]} and training.nodes {told[1]}, and what was started are {real[0]} and {real[1]}",
            fix="leave them out: who starts the processes decides",
        )
    training = plan.training.model_copy(update={"devices": real[0], "nodes": real[1]})
    return plan.model_copy(update={"training": training})


@contextmanager
def process_group(spec: Training, job: Mapping[str, Any] | None) -> Iterator[ProcessGroup]:
    """The processes that train, from their meeting to their parting.

    Args:
        job: What ``fit`` was asked, as plain JSON, to ask the others the same; None where that cannot be said.
    """
    found, wanted = process_place(), spec.devices * spec.nodes
    if found is None and wanted > 1:
        with _start_processes(spec, job) as processes:
            yield processes
        return
    from sensorium.training.process_group import ProcessGroup

    if found is None:
        yield ProcessGroup()
        return
    processes = ProcessGroup(*found)
    if WORKER in os.environ:
        print("ready", flush=True)
    with initialised(processes, _store(processes)):
        yield processes


def _store(processes: ProcessGroup) -> Any:
    """Where processes that something else started find each other."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    if WORKER in os.environ:
        return TCPStore("127.0.0.1", int(os.environ[WORKER]), processes.count, False, timeout=LIMIT)
    if "MASTER_ADDR" in os.environ and "MASTER_PORT" in os.environ:
        return None
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

    slurm = SLURMEnvironment()
    return TCPStore(slurm.main_address, slurm.main_port, processes.count, processes.first, timeout=LIMIT)


@contextmanager
def initialised(processes: ProcessGroup, store: Any) -> Iterator[None]:
    """Processes that know of each other through a store, while they train; parted at the end."""
    import torch
    import torch.distributed as dist

    if dist.is_initialized():  # by a script of the user's own, which also ends it
        yield
        return
    # Words go over gloo, gradients over what the devices speak.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    where: dict[str, Any] = {} if store is None else {"store": store, "rank": processes.rank, "world_size": processes.count}
    dist.init_process_group(backend, timeout=LIMIT, **where)
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def _start_processes(spec: Training, job: Mapping[str, Any] | None) -> Iterator[ProcessGroup]:
    """The other processes of this machine, started, met and, in the end, gone."""
    if spec.nodes > 1:
        raise ConfigError(
            f"training.nodes is {spec.nodes}, and nothing started processes on the others",
            fix="start the same command on every machine with torchrun or srun: docs/scaling.md",
        )
    if job is None:
        raise ConfigError(
            f"training.devices is {spec.devices}, and rows in memory cannot be handed to other processes",
            fix="give the table as a file, or run your script with torchrun --nproc_per_node " + str(spec.devices),
        )
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    from sensorium.training.process_group import ProcessGroup

    before = os.environ.get("GLOO_SOCKET_IFNAME")
    if before is None and sys.platform == "linux":
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # the machine's name may lead nowhere
    store = TCPStore("127.0.0.1", 0, spec.devices, True, timeout=LIMIT, wait_for_workers=False)
    workers = [_worker(rank, spec.devices, store.port, job) for rank in range(1, spec.devices)]
    try:
        for rank, worker in enumerate(workers, 1):
            assert worker.stdout is not None
            if worker.stdout.readline().strip() != b"ready":
                raise _worker_failed(rank)
        with initialised(processes := ProcessGroup(0, spec.devices), store):
            try:
                yield processes
            except RuntimeError as error:
                # A neighbour that is gone is met as a broken connection.
                for rank, worker in enumerate(workers, 1):
                    if _exit_code(worker) not in (None, 0):
                        raise _worker_failed(rank) from error
                raise
    except BaseException:
        for worker in workers:
            worker.kill()
        raise
    finally:
        for worker in workers:
            worker.wait()
            if worker.stdout is not None:
                worker.stdout.close()
        if before is None:
            os.environ.pop("GLOO_SOCKET_IFNAME", None)


def _exit_code(worker: subprocess.Popen[bytes]) -> int | None:
    try:
        return worker.wait(2)
    except subprocess.TimeoutExpired:
        return None


def _worker_failed(rank: int) -> SensoriumError:
    return SensoriumError(
        f"training process {rank} of this machine came to an early end", fix="what it says of it stands above"
    )


def _worker(rank: int, count: int, port: int, job: Mapping[str, Any]) -> subprocess.Popen[bytes]:
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, WORKER: port}
    worker = subprocess.Popen(
        [sys.executable, "-m", "sensorium.training.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **{name: str(value) for name, value in told.items()}},
        # Ctrl-C is the first one's, which then ends the others.
        start_new_session=True,
    )
    assert worker.stdin is not None
    worker.stdin.write(json.dumps(job).encode())
    worker.stdin.close()
    return worker


def job_of(request: Request, **asked: Any) -> dict[str, Any] | None:
    """What ``fit`` was asked, as plain JSON; None where its rows are in memory."""
    if not all(table is None or isinstance(table, (str, os.PathLike)) for table in (request.source, request.valid)):
        return None
    by_role = {role: [name for name, other in request.roles.items() if other == role] for role in ("group", "weight")}
    told = {
        "train": request.source,
        "valid": request.valid,
        "media": request.media,
        "cache": request.cache,
        **asked,
    }
    plain = {name: str(value) if isinstance(value, os.PathLike) else value for name, value in told.items()}
    return {
        **plain,
        "target": list(request.targets),
        "ignore": [name for name, role in request.roles.items() if role == "ignore"],
        **{role: names[0] if names else None for role, names in by_role.items()},
        # What was said, not what is default: a quality sets only what was left open.
        "recipe": request.plan.model_dump(exclude_unset=True),
    }
