"""HOST:PORT checked and taken apart, and whether it leads to this machine only; no name is
resolved."""

from __future__ import annotations

import ipaddress
import re

from glimpse.errors import InvalidInput

_SCHEME = re.compile(r"(dns|ipv4|ipv6):(//[^/]*/)?")
_OTHER_SCHEME = re.compile(r"(unix|unix-abstract|vsock|xds|google-c2p):")
_MAX_PORT = 65_535


def split_host_port(address: str) -> tuple[str, str]:
    """Host and port, "" for a port that is not there; an IPv6 host comes without its brackets."""
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(\d+))?", address)
    if bracketed:
        return bracketed[1], bracketed[2] or ""
    host, separator, port = address.rpartition(":")
    return (host, port) if separator else (port, "")


def is_loopback(target: str) -> bool:
    """Whether HOST:PORT, or gRPC's SCHEME:HOST:PORT, can be reached from this machine only."""
    host, _ = split_host_port(_SCHEME.sub("", target, count=1))
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_target(field: str, target: str) -> None:
    """Raises InvalidInput for what no channel leads to: gRPC itself takes anything, adds port 443
    where none is given, and fails at the first call."""
    if _OTHER_SCHEME.match(target):
        return
    for address in _SCHEME.sub("", target, count=1).split(","):
        host, port = split_host_port(address)
        has_port = port.isdecimal() and 0 < int(port) <= _MAX_PORT
        bare_ipv6 = ":" in host and not address.startswith("[")
        if not host or "/" in host or bare_ipv6 or not has_port:
            raise InvalidInput(field, f"must be HOST:PORT, such as 127.0.0.1:50053, not {target!r}")


def address_of(target: str) -> tuple[str, int] | None:
    """The first host and port that a checked target names; None where it is no name of a host."""
    if _OTHER_SCHEME.match(target):
        return None
    host, port = split_host_port(_SCHEME.sub("", target, count=1).partition(",")[0])
    return host, int(port)
