"""Serving a project: checks before, a lock against a second server, and an end that loses nothing."""

import contextlib
import fcntl
import ipaddress
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import uvicorn

from plaudit.core.errors import ConfigError, RunError
from plaudit.feedback.project import Project
from plaudit.web.app import create_app
from plaudit.web.demo import Door

LOCK_FILE: Final = "serving.lock"
LOOPBACK_NAMES: Final = frozenset({"127.0.0.1", "localhost", "::1"})
STOP_S: Final = 20  # for requests that are being answered when the server is told to stop


def serve(
    project: Project,
    *,
    host: str,
    port: int,
    https_host: str | None,
    doors: Mapping[str, Door] = MappingProxyType({}),
    started: Callable[[str], object],
) -> None:
    """Serve until interrupted or terminated.

    https_host: the name under which a proxy on this machine offers the site over HTTPS; None serves this machine only.
    started:    called with the address once requests are answered.

    Raises ConfigError for an address that would send passwords in clear, RunError if the port or the project is taken.
    """
    check_address(host, https_host)
    https = https_host is not None
    hosts = LOOPBACK_NAMES | ({https_host} if https_host else set[str]())
    with _one_server(project), _bound(host, port) as listening, _until_stopped():
        app = create_app(project, https=https, hosts=hosts, doors=doors)
        config = uvicorn.Config(
            app,
            # The proxy on this machine says where a request came from; nobody else is believed.
            proxy_headers=https,
            forwarded_allow_ips="127.0.0.1,::1",
            server_header=False,
            # An access log would hold who read what when.
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=STOP_S,
            lifespan="off",
        )
        address = address_of(host, listening.getsockname()[1], https_host)
        _Announced(config, lambda: started(address)).run(sockets=[listening])


class _Announced(uvicorn.Server):
    """A server that says when it answers."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], object]) -> None:
        super().__init__(config)
        self.announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.announce()


def address_of(host: str, port: int, https_host: str | None) -> str:
    """Where people find the site."""
    return f"https://{https_host}" if https_host else f"http://{f'[{host}]' if ':' in host else host}:{port}"


def check_address(host: str, https_host: str | None) -> None:
    """Raises ConfigError unless only this machine, or a proxy with TLS, can reach the server."""
    if https_host is not None and (not https_host or "/" in https_host or "://" in https_host):
        raise ConfigError(f"https_host={https_host} is no host name. Write it as people type it: label.example.org")
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise ConfigError(f"host={host} is no IP address of this machine. Write 127.0.0.1, ::1 or another.") from None
    if not loopback and https_host is None:
        raise ConfigError(
            f"host={host} would offer the site to the network without encryption, and passwords with it. Put a proxy "
            "with TLS in front and give its name: https_host=label.example.org. For yourself an SSH tunnel is enough."
        )


@contextlib.contextmanager
def _one_server(project: Project) -> Iterator[None]:
    """Hold the project's lock: SQLite has one serving process, else two would lease the same tasks past each other."""
    if not project.database.is_sqlite:
        yield
        return
    path = Path(project.folder) / LOCK_FILE
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(
                f"{project.folder} is being served already. Use that server, or stop it first (SQLite has one server a "
                "project; PostgreSQL can have several)."
            ) from None
        yield


@contextlib.contextmanager
def _until_stopped() -> Iterator[None]:
    """Ctrl+C and SIGTERM end the body and not the program: uvicorn finishes its requests, then raises them again."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except OSError as error:
            raise RunError(f"Port {port} on {host} cannot be used: {error.strerror}. Choose another: port=0") from None
        listening.listen(128)
        listening.setblocking(False)
        yield listening
