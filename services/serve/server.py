"""`deponij serve`: a socket, a service, and their end. This is no stage."""

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import uvicorn

from deponij.services.serve.app import create_app
from deponij.services.serve.counters import Counters
from deponij.services.serve.guards import allowed_names
from deponij.services.serve.setup import ServeRequest, make_service
from deponij.store.errors import UsageError

# For requests that are under way when the server is told to stop.
_GRACE_S = 10
_BACKLOG = 512


@dataclass(frozen=True)
class Address:
    """Where a server listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """For a browser."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{self.port}"


def run(
    request: ServeRequest,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    allow_hosts: tuple[str, ...] = (),
    ready: Callable[[Address], None] = lambda _: None,
) -> bool:
    """Serve until told to stop (SIGINT, SIGTERM); requests under way are finished.

    Args:
        port: 0 takes one that is free.
        allow_hosts: further names that it is reached by.
        ready: told the address once it listens.

    Returns:
        Whether a model was still being loaded, on a thread that cannot be ended.

    Raises:
        UsageError: the address cannot be had, or nothing says what to serve.
        DeponijError: an index or items cannot be read.
    """
    listener = _listen(host, port)
    with listener:
        counters = Counters()
        service = make_service(request, counters)
        app = create_app(service, counters, allowed_names(host, allow_hosts))
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_S,
            timeout_keep_alive=30,
            lifespan="on",
        )
        address = Address(host, listener.getsockname()[1])
        _Server(config, lambda: ready(address)).run([listener])
    return service.is_loading


class _Server(uvicorn.Server):
    """Says when it listens, and takes a signal for its ordinary end."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGINT and SIGTERM. uvicorn would raise them again afterwards, and end by them."""

        def stop(number: int, frame: FrameType | None) -> None:
            self.handle_exit(number, frame)

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _listen(host: str, port: int) -> socket.socket:
    """A socket that is bound.

    Raises:
        UsageError: the port is taken, or the host is not of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # Not `socket.create_server`: asyncio sets TCP_NODELAY only where the protocol is named, else answers wait 40 ms.
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(
            f"cannot listen at {host} port {port}: {reason}; choose another one with --port (0 takes a free one) "
            "or --host"
        ) from error
    return listener
