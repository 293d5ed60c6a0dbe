"""`parrots mlflow serve`: MLflow for a team, with a password, on a database that takes many writers."""

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import click

from parrots.atomic import atomic
from parrots.keys import folder, secret
from sweeps.guard import LOOPBACK, free
from sweeps.say import out
from sweeps.tracked import spelled
from sweeps.verbs.options import results_option

ADMIN = "admin"
SAFE = {
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    # its runner of background jobs is eight processes and 1.4 GB for evaluations of language-model applications
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "UVICORN_LOOP": "sweeps.collecting:loop",
}


@click.group()
def mlflow() -> None:
    """MLflow for a team."""


@mlflow.command()
@results_option
@click.option("--host", default=LOOPBACK, show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@click.option(
    "--allowed-hosts",
    default="",
    metavar="NAMES",
    help="Names that users call it by, beside loopback's; no stars. With TLS's port, as box:8443, where that is not 443.",
)
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Server processes.")
def serve(results: Path, host: str, port: int, allowed_hosts: str, workers: int) -> None:
    """Serve MLflow with a password, over SQLite in the results or the database that $MLFLOW_BACKEND_STORE_URI names.

    The user is `admin`; the password was made at random and lies in a file that only you may read. Clients get it as
    $MLFLOW_TRACKING_USERNAME and $MLFLOW_TRACKING_PASSWORD. Put TLS in front of it, or an SSH tunnel.
    """
    store = os.environ.get("MLFLOW_BACKEND_STORE_URI") or f"sqlite:///{(results / 'mlflow.db').absolute()}"
    store = database(store, "MLFLOW_BACKEND_STORE_URI")
    names = [name.strip() for name in allowed_hosts.split(",") if name.strip()]
    if "*" in allowed_hosts:
        raise ValueError("--allowed-hosts takes names, without stars")
    if host not in (LOOPBACK, "localhost") and not names:  # or it would refuse everybody whom it was opened to
        raise ValueError(f"--host {host}: name what others call this machine by, with --allowed-hosts")
    free(port)
    results.mkdir(parents=True, exist_ok=True)
    command = server(results, host, port, names=names, workers=workers)
    given = environment(credentials() | {"MLFLOW_BACKEND_STORE_URI": store})
    out.print(f"MLflow is at http://{host}:{port} until Ctrl-C; user {ADMIN}, password in {folder() / 'mlflow-password'}")
    os.execve(sys.executable, [*command, "--app-name", "basic-auth"], given)  # nosec B606 # words of ours, and no shell


def database(uri: str, name: str) -> str:
    """The address, with its driver. ValueError, with the variable that has it, unless a server of ours may serve from there."""
    if not uri.startswith(("sqlite:", "postgresql")):
        raise ValueError(f"{name} is {uri.partition(':')[0]}; it has to be sqlite or postgresql, never files")
    return spelled(uri)


def server(results: Path, host: str, port: int, names: list[str], workers: int = 1) -> list[str]:
    """The command line of an MLflow server that answers to these names alone; its database is told by the environment.

    To each with its port, and as TLS in front of it passes it on; and to posts from pages under these names, as MLflow's are.
    """
    own = [f"{name}:{port}" for name in (LOOPBACK, "localhost")]
    hosts = [*own, *(host for name in names for host in (f"{name}:{port}", name, f"{name}:443"))]
    origins = [origin for name in names for origin in (f"http://{name}:{port}", f"https://{name}")]
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", str(workers)]
    command += ["--artifacts-destination", (results / "mlartifacts").absolute().as_uri()]
    return [*command, "--allowed-hosts", ",".join(hosts), "--cors-allowed-origins", ",".join(origins)]


def environment(given: dict[str, str]) -> dict[str, str]:
    """This process's, with only what is given of what MLflow and uvicorn take from it: some of that leaves their checks out."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "_MLFLOW_", "UVICORN_"))}
    return kept | SAFE | given


def credentials() -> dict[str, str]:
    """What the server takes from its environment, so that no process list shows it; the password is then the only one."""
    ini, users, password = folder() / "mlflow.ini", folder() / "mlflow-users.db", secret("mlflow-password")
    if users.exists():
        renew(users, password)
    lines = (
        "[mlflow]",
        "default_permission = NO_PERMISSIONS",
        f"database_uri = sqlite:///{users.absolute()}",
        f"admin_username = {ADMIN}",  # the password is in the environment alone
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth",
        "grant_default_workspace_access = false",
    )
    with atomic(ini) as sink:
        sink.write("\n".join(lines).encode())
    ini.chmod(0o600)
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(ini),
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secret("mlflow-session"),
    }


def renew(users: Path, password: str) -> None:
    """Give the admin this password: MLflow takes one only as it makes the user. ValueError where there are no users."""
    from werkzeug.security import generate_password_hash

    change = "UPDATE users SET password_hash = ? WHERE username = ?"
    try:
        with closing(sqlite3.connect(users)) as store, store:
            store.execute(change, (generate_password_hash(password), ADMIN))
    except sqlite3.Error as error:
        raise ValueError(f"MLflow's users in {users} cannot be read ({error}); move it away, and they are made anew") from error
