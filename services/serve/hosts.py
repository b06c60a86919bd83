"""Which host names a server answers to: a page of another site must not reach it under a name of its own.

DNS rebinding makes a foreign name point at this machine; then the browser sends that name. An address in numbers
cannot be made to point elsewhere, so it is always let through.
"""

import ipaddress
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

_LOOPBACK_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that is bound to this host."""
    if host.lower() in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def allowed_names(bound: str, further: Sequence[str] = ()) -> frozenset[str]:
    """Names that a request may come for, beside addresses in numbers."""
    names = {bound, *further, *_LOOPBACK_NAMES}
    if not is_loopback(bound):
        own = socket.gethostname()
        names |= {own, f"{own}.local", socket.getfqdn()}
    return frozenset(name.lower() for name in names)


def is_allowed(host_header: str, names: frozenset[str]) -> bool:
    """Whether a Host header, with or without a port, names this server."""
    host = _host_of(host_header)
    if host is None:
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host in names
    return True


def is_same_site(origin: str, names: frozenset[str]) -> bool:
    """Whether an Origin header is of a page that this server gave."""
    scheme, _, rest = origin.partition("://")
    return scheme in ("http", "https") and is_allowed(rest, names)


def _host_of(header: str) -> str | None:
    try:
        parts = urlsplit(f"//{header}")
        parts.port  # noqa: B018 - raises where it is none
    except ValueError:
        return None
    if parts.netloc != header or "@" in header:
        return None
    return parts.hostname
