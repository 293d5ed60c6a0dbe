"""How the workers of a group find one another: in torch's store, which listens on the address that its node has in Ray.

Ray leaves that to torch (2.60: `env://`), whose store listens on every network of the machine. It asks nobody for a password.
"""

import socket
from datetime import timedelta
from typing import Any

import ray
import torch.distributed as dist
from ray.train.torch import TorchConfig
from ray.train.torch.config import _set_torch_distributed_env_vars, _TorchBackend


class Rendezvous(TorchConfig):
    """Ray's settings of a process group, and ours of where it is made."""

    @property
    def backend_cls(self) -> type["AtItsAddress"]:
        return AtItsAddress


class AtItsAddress(_TorchBackend):
    """Makes the group, and has Ray end it."""

    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        """Called on the group's driver."""
        worker_group.execute(_set_torch_distributed_env_vars)
        ip, port, listener = worker_group.execute_single(0, listen)
        told = (ip, port, len(worker_group), backend_config.backend, timedelta(seconds=backend_config.timeout_s))
        listeners = [listener, *[None] * (len(worker_group) - 1)]
        ray.get([worker_group.execute_single_async(i, join, i, one, *told) for i, one in enumerate(listeners)])


def listen() -> tuple[str, int, int]:
    """Address, port and descriptor of a socket of this process, for the store; who comes before that is there waits."""
    ip = ray.util.get_node_ip_address()
    listener = socket.create_server((ip, 0), family=socket.AF_INET6 if ":" in ip else socket.AF_INET)
    return ip, listener.getsockname()[1], listener.detach()


def join(member: int, listener: int | None, ip: str, port: int, world: int, backend: str, timeout: timedelta) -> None:
    """Be a worker of the group; the one with the listener has its store."""
    first = listener is not None
    store = dist.TCPStore(ip, port, None, first, timeout, wait_for_workers=False, master_listen_fd=listener)
    dist.init_process_group(backend, store=store, rank=member, world_size=world, timeout=timeout)
