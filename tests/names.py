"""A DNS server on the loopback interface, which names the addresses that a test tells it to."""

from __future__ import annotations

import socket
import struct
import threading

_ADDRESS = 1  # the type of a record with an IPv4 address
_POINTER_TO_QUESTION = b"\xc0\x0c"


class NameServer:
    """Answers every question with `addresses`, which no client may remember."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def target(self, port: int) -> str:
        """For a gRPC channel: a name that this server is asked for, and a port."""
        return f"dns://127.0.0.1:{self._port}/query.glimpse.test:{port}"

    def close(self) -> None:
        """Ends the thread, by a message that is no question."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", ("127.0.0.1", self._port))
        self._thread.join()
        self._socket.close()

    @property
    def _port(self) -> int:
        return self._socket.getsockname()[1]

    def _serve(self) -> None:
        while True:
            asked, caller = self._socket.recvfrom(512)
            if not asked:
                return
            self._socket.sendto(self._answer(asked), caller)
            self.asked += 1

    def _answer(self, asked: bytes) -> bytes:
        """Header, question and answers as in RFC 1035, section 4; a record lives for 0 s."""
        end = asked.index(b"\0", 12) + 5
        (kind,) = struct.unpack(">H", asked[end - 4 : end - 2])
        addresses = self.addresses if kind == _ADDRESS else ()
        header = asked[:2] + struct.pack(">5H", 0x8580, 1, len(addresses), 0, 0)
        record = _POINTER_TO_QUESTION + struct.pack(">HHIH", _ADDRESS, 1, 0, 4)
        answers = (record + socket.inet_aton(address) for address in addresses)
        return header + asked[12:end] + b"".join(answers)
