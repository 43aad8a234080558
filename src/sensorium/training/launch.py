"""Launching of several processes that train one model: started here on one machine, or by torchrun or SLURM on many.

Each process runs ``fit`` from the start: all read the table, one decodes media (the others wait for the cache), and they
connect where training begins. The first one writes and prints. On one machine, ``fit`` starts the others once everything
is decoded, with the same arguments.
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
"""Environment variable of a process that ``fit`` started: the port that the first one listens on."""
LIMIT = timedelta(minutes=30)
"""How long processes wait for each other: a large table may be read faster on some machines."""


def process_place() -> tuple[int, int, int, int] | None:
    """Return rank, number of processes, local rank and number of machines; None if this process is alone."""
    env = os.environ
    if all(name in env for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")):  # torchrun, or started by ``fit``
        count = int(env["WORLD_SIZE"])
        place = int(env["RANK"]), count, int(env["LOCAL_RANK"]), max(1, count // int(env.get("LOCAL_WORLD_SIZE", count)))
    elif all(name in env for name in ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")) and "SLURM_STEP_ID" in env:
        count, machines = int(env["SLURM_NTASKS"]), int(env.get("SLURM_NNODES", "1"))
        place = int(env["SLURM_PROCID"]), count, int(env["SLURM_LOCALID"]), machines
    else:
        return None
    return place if count > 1 else None


def first() -> bool:
    """Whether this process is the one that writes and prints."""
    place = process_place()
    return place is None or place[0] == 0


def with_processes(plan: Recipe) -> Recipe:
    """Return ``plan`` with the number of processes that were launched.

    Raises:
        ConfigError: The recipe names another number.
    """
    place = process_place()
    if place is None:
        return plan
    _, count, _, machines = place
    if count % machines:
        raise ConfigError(f"{count} processes on {machines} machines: every machine must run the same number")
    requested = plan.training.devices, plan.training.nodes
    real = count // machines, machines
    if requested not in ((1, 1), real):
        raise ConfigError(
            f"training.devices={requested[0]}, training.nodes={requested[1]}, but {real[0]} and {real[1]} were started",
            fix="leave them out: the launcher sets them",
        )
    training = plan.training.model_copy(update={"devices": real[0], "nodes": real[1]})
    return plan.model_copy(update={"training": training})


@contextmanager
def process_group(spec: Training, job: Mapping[str, Any] | None) -> Iterator[ProcessGroup]:
    """Context of the processes that train together.

    Args:
        spec: The section ``training`` of the recipe.
        job: The arguments of ``fit`` as plain JSON, for the processes to start; None if they cannot be serialised.
    """
    place, requested = process_place(), spec.devices * spec.nodes
    if place is None and requested > 1:
        with _start_processes(spec, job) as processes:
            yield processes
        return
    from sensorium.training.process_group import ProcessGroup

    if place is None:
        yield ProcessGroup()
        return
    processes = ProcessGroup(*place)
    if WORKER in os.environ:
        print("ready", flush=True)
    with initialised(processes, _store(processes)):
        yield processes


def _store(processes: ProcessGroup) -> Any:
    """Return the store through which externally launched processes connect."""
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
    """Context in which ``processes`` are connected through ``store``; None: as environment variables say."""
    import torch
    import torch.distributed as dist

    if dist.is_initialized():  # by the user's script, which also ends it
        yield
        return
    # Objects are exchanged over gloo, gradients over the backend of the devices.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    where: dict[str, Any] = {} if store is None else {"store": store, "rank": processes.rank, "world_size": processes.count}
    dist.init_process_group(backend, timeout=LIMIT, **where)
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def _start_processes(spec: Training, job: Mapping[str, Any] | None) -> Iterator[ProcessGroup]:
    """Start and connect the other processes of this machine; end them on exit."""
    if spec.nodes > 1:
        raise ConfigError(
            f"training.nodes is {spec.nodes}, but no processes were started on the other machines",
            fix="start the same command on every machine with torchrun or srun: docs/scaling.md",
        )
    if job is None:
        raise ConfigError(
            f"training.devices is {spec.devices}, but rows in memory cannot be passed to other processes",
            fix="give the table as a file, or run your script with torchrun --nproc_per_node " + str(spec.devices),
        )
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    from sensorium.training.process_group import ProcessGroup

    before = os.environ.get("GLOO_SOCKET_IFNAME")
    if before is None and sys.platform == "linux":
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # the host name may not resolve
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
                # A worker that has died shows as a broken connection.
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
    return SensoriumError(f"training process {rank} of this machine ended early", fix="its own message is printed above")


def _worker(rank: int, count: int, port: int, job: Mapping[str, Any]) -> subprocess.Popen[bytes]:
    environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, WORKER: port}
    worker = subprocess.Popen(
        [sys.executable, "-m", "sensorium.training.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **{name: str(value) for name, value in environment.items()}},
        # Ctrl-C goes to the first process, which then ends the others.
        start_new_session=True,
    )
    assert worker.stdin is not None
    worker.stdin.write(json.dumps(job).encode())
    worker.stdin.close()
    return worker


def job_of(request: Request, **options: Any) -> dict[str, Any] | None:
    """Return the arguments of ``fit`` (``request`` and ``options``) as plain JSON; None where its rows are in memory."""
    if not all(table is None or isinstance(table, (str, os.PathLike)) for table in (request.source, request.valid)):
        return None
    by_role = {role: [name for name, other in request.roles.items() if other == role] for role in ("group", "weight")}
    arguments = {
        "train": request.source,
        "valid": request.valid,
        "media": request.media,
        "cache": request.cache,
        **options,
    }
    plain = {name: str(value) if isinstance(value, os.PathLike) else value for name, value in arguments.items()}
    return {
        **plain,
        "target": list(request.targets),
        "ignore": [name for name, role in request.roles.items() if role == "ignore"],
        **{role: names[0] if names else None for role, names in by_role.items()},
        # Only what the user set: a quality sets only what is left open.
        "recipe": request.plan.model_dump(exclude_unset=True),
    }
