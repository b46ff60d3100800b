"""HOST:PORT taken apart, and whether it leads to this machine only; no name is resolved."""

from __future__ import annotations

import ipaddress
import re

_SCHEME = re.compile(r"(dns|ipv4|ipv6):(//[^/]*/)?")


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
