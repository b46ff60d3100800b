"""HTTP/2 connections that do what a gRPC client never does; what to do with them is the attacks'
job."""

from __future__ import annotations

import contextlib
import socket
import struct
import time

import h2.config
import h2.connection
import h2.events
import h2.settings
import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# RFC 9113, 4.1 and 6.2.
_FRAME_HEAD_BYTES = 9
_HEADERS = 1
_PADDED, _PRIORITY = 0x08, 0x20

_CONFIGURATION = h2.config.H2Configuration(
    header_encoding="utf-8",
    # It is the peer's job to refuse what is wrong.
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)


def tcp(address: str) -> socket.socket:
    """A plain connection to HOST:PORT."""
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=20)


def vanish(connection: socket.socket) -> None:
    """Closes a connection at once and without a farewell: its peer gets a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def has_unreadable_path(content: bytes) -> bool:
    """Whether frames, as they follow the preface, name a method that is no UTF-8.

    Of a block of headers that is broken, what comes before that counts: gRPC reads on, too.
    """
    at = 0
    while at + _FRAME_HEAD_BYTES <= len(content):
        kind, flags = content[at + 3 : at + 5]
        start = at + _FRAME_HEAD_BYTES
        at = start + int.from_bytes(content[at : at + 3], "big")
        if kind == _HEADERS:
            start += bool(flags & _PADDED) + (5 if flags & _PRIORITY else 0)
            block = content[start:at]
            if any(_has_unreadable_path(block[:end]) for end in range(len(block) + 1)):
                return True
    return False


def _has_unreadable_path(block: bytes) -> bool:
    try:
        for name, value in hpack.Decoder().decode(block, raw=True):
            if name == b":path":
                value.decode()
    except UnicodeDecodeError:
        return True
    except hpack.HPACKError:
        pass
    return False


def framed(message: bytes, compressed: bool = False) -> bytes:
    """A message as gRPC puts it into DATA."""
    return struct.pack(">?I", compressed, len(message)) + message


class Wire:
    """One HTTP/2 connection, by hand. `window` is what the peer may send on each stream unread."""

    def __init__(self, connection: socket.socket, window: int | None = None) -> None:
        self._socket = connection
        self._h2 = h2.connection.H2Connection(_CONFIGURATION)
        if window is not None:
            codes = h2.settings.SettingCodes
            self._h2.local_settings = h2.settings.Settings(
                client=True, initial_values={codes.INITIAL_WINDOW_SIZE: window}
            )
        self._h2.initiate_connection()
        self._statuses: dict[int, str] = {}
        self.flush()

    def begin(self, path: str | bytes, *headers: tuple[str, str]) -> int:
        """Opens a call, and sends no message yet; the stream's number."""
        stream = self._h2.get_next_available_stream_id()
        names = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost"}
        names |= {"te": "trailers", "content-type": "application/grpc"}
        self._h2.send_headers(stream, [*names.items(), *headers])
        self.flush()
        return stream

    def send(self, stream: int, content: bytes, end: bool = False) -> int:
        """Sends DATA as far as the peer's window goes; how many bytes that was."""
        sent = 0
        while sent < len(content):
            size = min(self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size)
            if size <= 0:
                break
            part = content[sent : sent + size]
            sent += len(part)
            self._h2.send_data(stream, part, end_stream=end and sent == len(content))
            self.flush()
        return sent

    def reset(self, stream: int) -> None:
        self._h2.reset_stream(stream)
        self.flush()

    def flush(self) -> None:
        self._socket.sendall(self._h2.data_to_send())

    def read(self, timeout_s: float) -> bool:
        """Takes in what has come; False when nothing came, or the peer has closed."""
        self._socket.settimeout(timeout_s)
        try:
            content = self._socket.recv(65536)
        except (TimeoutError, ConnectionError):
            return False
        if not content:
            return False
        for event in self._h2.receive_data(content):
            if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                status = dict(event.headers).get("grpc-status")
                if status is not None:
                    self._statuses[event.stream_id] = str(status)
            elif isinstance(event, h2.events.DataReceived):
                with contextlib.suppress(h2.exceptions.ProtocolError):
                    size = event.flow_controlled_length
                    self._h2.acknowledge_received_data(size, event.stream_id)
        self.flush()
        return True

    def status(self, stream: int, timeout_s: float = 20.0) -> str | None:
        """The grpc-status that a stream ends with; None if the peer closes, or says nothing."""
        ends_s = time.monotonic() + timeout_s
        while stream not in self._statuses:
            if not self.read(max(0.001, ends_s - time.monotonic())):
                return None
        return self._statuses[stream]

    def close(self) -> None:
        """Once all that was sent has arrived."""
        self._socket.close()

    def vanish(self) -> None:
        vanish(self._socket)
