"""Hosts without a cloud: network namespaces on one bridge, each with processes, name, home and sshd of its own"""

import os
import shlex
import shutil
import socket
import subprocess
import time
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

TOOLS = ("ip", "unshare", "sshd", "ssh", "ssh-keygen", "rsync")


def missing() -> str:
    """Why hosts cannot be made here; nothing where they can."""
    if absent := [tool for tool in TOOLS if not shutil.which(tool)]:
        return f"{', '.join(absent)} not installed (Debian: iproute2, openssh-server, rsync)"
    if subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True).returncode:
        return "namespaces are not allowed here"
    return ""


class Network:
    """Hosts that reach one another and this machine, until it is left; another network's are apart.

    public_key: of who may log in to them.
    """

    def __init__(self, number: int, folder: Path, public_key: Path):
        self.bridge, self.number, self.folder, self.public_key = f"parrots-{number}", number, folder, public_key
        self.hosts: list[Host] = []

    def address(self, number: int = 1) -> str:
        """Of a host, or of this machine."""
        return f"10.77.{self.number}.{number}"

    def boot(self, number: int, environment: dict[str, str] | None = None, daemon: str = "true") -> None:
        """One host more, as `Host` says."""
        self.hosts.append(Host(self, number, environment, daemon))
        self.hosts[-1].start()

    def __enter__(self) -> "Network":
        self.__exit__()  # what a test that was killed has left
        _ip("link", "add", self.bridge, "type", "bridge")
        _ip("address", "add", f"{self.address()}/24", "dev", self.bridge)
        _ip("link", "set", self.bridge, "up")
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.hosts:
            host.remove()
        subprocess.run(["ip", "link", "delete", self.bridge], check=False, capture_output=True)


class Host:
    """A host of a network, whose number is in its name and address; `start` boots it, `kill` is a power cut.

    environment: of each login, if its disk at /shared is its own, and not the one that all share.
    daemon: a command that runs on it beside sshd.
    """

    def __init__(self, network: Network, number: int, environment: dict[str, str] | None, daemon: str):
        folder = network.folder
        self.name, self.address, self.folder = f"parrots{number}", network.address(number), folder / f"host{number}"
        self.disk = folder / "shared" if environment is None else self.folder / "disk"
        self.process: subprocess.Popen[bytes] | None = None
        home = self.folder / "home"
        (home / ".ssh").mkdir(parents=True)
        shutil.copy(network.public_key, home / ".ssh" / "authorized_keys")
        # what sshd gives a login: one interface has a route to the other hosts, and gloo has to be told which
        lines = ("export GLOO_SOCKET_IFNAME=eth0", "export RAY_DISABLE_MEMORY_MONITOR=1", "export OMP_NUM_THREADS=1")
        more = (f"export {name}={shlex.quote(value)}" for name, value in (environment or {}).items())
        (home / ".bashrc").write_text("\n".join((*lines, *more, "")))
        (home / ".profile").write_text(". ~/.bashrc\n")
        key = self.folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        config = ("UsePAM no", "StrictModes no", "PidFile none", f"HostKey {key}", "PermitRootLogin yes", "MaxSessions 100")
        more = (f"AuthorizedKeysFile {home}/.ssh/authorized_keys", "MaxStartups 100", "PasswordAuthentication no")
        (self.folder / "sshd_config").write_text("\n".join((*config, *more, "")))
        users = Path("/etc/passwd").read_text().splitlines()
        others = [line for line in users if not line.startswith("root:")]
        (self.folder / "passwd").write_text("\n".join((f"root:x:0:0:root:{home}:/bin/bash", *others, "")))
        names = "".join(f"{network.address(other)} parrots{other}\n" for other in range(2, 100))
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
        (self.folder / "boot").write_text(
            f"""set -e
hostname {self.name}
mkdir -p {self.folder}/ray {self.disk} /tmp/ray /run/sshd /shared
mount --bind {self.disk} /shared
mount --bind {self.folder}/passwd /etc/passwd
mount --bind {self.folder}/hosts /etc/hosts
mount --bind {self.folder}/ray /tmp/ray
mount -t tmpfs tmpfs /dev/shm
{daemon} &
exec $(command -v sshd) -D -e -f {self.folder}/sshd_config
"""
        )
        _ip("netns", "add", self.name)
        _ip("link", "add", f"v{self.name}", "type", "veth", "peer", "name", "eth0", "netns", self.name)
        _ip("link", "set", f"v{self.name}", "master", network.bridge, "up")
        for words in (
            ("address", "add", f"{self.address}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("link", "set", "lo", "up"),
            ("route", "add", "default", "via", network.address()),
        ):
            _ip("-n", self.name, *words)

    def start(self) -> None:
        """Boot, and wait until it takes a connection."""
        shutil.rmtree(self.folder / "ray", ignore_errors=True)
        inside = ["unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"]
        command = ["ip", "netns", "exec", self.name, *inside, "bash", str(self.folder / "boot")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env={"PATH": os.environ["PATH"]})
        end = time.monotonic() + 30
        while True:
            with socket.socket() as probe:
                if probe.connect_ex((self.address, 22)) == 0:
                    return
            assert time.monotonic() < end, (self.folder / "log").read_text()
            time.sleep(0.1)

    def telling(self, path: str) -> list[int]:
        """The ports that answer a request for this path from another host, and ask for nothing in turn."""
        sockets = ["ip", "netns", "exec", self.name, "ss", "--no-header", "--listening", "--tcp", "--numeric"]
        listening = [
            line.split()[3] for line in subprocess.run(sockets, capture_output=True, text=True, check=True).stdout.splitlines()
        ]
        assert f"{self.address}:22" in listening or "0.0.0.0:22" in listening
        found = []
        for port in {int(address.rpartition(":")[2]) for address in listening}:
            with suppress(OSError, HTTPException), closing(HTTPConnection(self.address, port, timeout=5)) as connection:
                connection.request("GET", path)
                if connection.getresponse().status == 200:
                    found.append(port)
        return found

    def kill(self) -> None:
        """SIGKILL to everything on it at once."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(30)

    def remove(self) -> None:
        """End it and its network."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        subprocess.run(["ip", "link", "delete", f"v{self.name}"], check=False)  # whatever still holds the namespace
        subprocess.run(["ip", "netns", "delete", self.name], check=False)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
