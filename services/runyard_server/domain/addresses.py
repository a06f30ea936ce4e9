"""Network addresses as people write them: HOST:PORT, and which of them only this machine can reach."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

PORT_MAX: Final = 65_535


@dataclass(frozen=True, slots=True)
class Address:
    """Where a listener binds or answers; port 0 asks for any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """True if only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(text: str) -> Address:
    """Returns the address that `text` says; "localhost" becomes 127.0.0.1.

    Raises ValueError with what is wrong: no port, a port out of range, an empty host.
    """
    host, colon, port_text = text.strip().rpartition(":")
    if not colon or not host:
        raise ValueError(f"{text!r} is not of the form HOST:PORT, such as 127.0.0.1:8080")
    if not (port_text.isascii() and port_text.isdecimal() and int(port_text) <= PORT_MAX):
        raise ValueError(f"port {port_text!r} in {text!r} is not a number from 0 to {PORT_MAX}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: write an IPv6 address in brackets, such as [::1]:8080")
    return Address("127.0.0.1" if host.lower() == "localhost" else host, int(port_text))


def check_listen_address(text: str) -> Address:
    """Returns the address if a listener may bind to it, which only loopback ones may; raises ValueError otherwise."""
    address = parse_address(text)
    if not address.is_loopback:
        raise ValueError(
            f"{text!r} is not a loopback address: anyone on the network could read and change every run, "
            "because API keys come later; use 127.0.0.1 or [::1], and a tunnel (ssh -L) from other machines"
        )
    return address
