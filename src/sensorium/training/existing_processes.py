"""Lightning's view of processes that are already connected."""

from __future__ import annotations

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment

from sensorium.training.process_group import ProcessGroup


class ExistingProcesses(ClusterEnvironment):
    """Lightning environment of processes that are already connected: none are started, and no address is needed."""

    def __init__(self, processes: ProcessGroup) -> None:
        self.processes = processes

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        return 0

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self.processes.count

    def set_world_size(self, size: int) -> None:
        """Do nothing: ``size`` is already known."""

    def global_rank(self) -> int:
        return self.processes.rank

    def set_global_rank(self, rank: int) -> None:
        """Do nothing: ``rank`` is already known."""

    def local_rank(self) -> int:
        return self.processes.local

    def node_rank(self) -> int:
        return self.processes.rank // (self.processes.count // self.processes.machines)
