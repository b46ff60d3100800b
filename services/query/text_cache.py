"""Vectors of texts that were asked for before, bounded; encoding new ones is not its job."""

from __future__ import annotations

from collections import OrderedDict

from services.common.encoder_client import Embedded


class TextCache:
    """The `max_texts` texts that were used last, all of one model; owned by the event loop."""

    def __init__(self, max_texts: int) -> None:
        self._max_texts = max_texts
        self._fingerprint = ""
        self._embedded: OrderedDict[str, Embedded] = OrderedDict()

    def get(self, text: str, fingerprint: str) -> Embedded | None:
        """The text's vector under that model, if it is here."""
        if fingerprint != self._fingerprint or text not in self._embedded:
            return None
        self._embedded.move_to_end(text)
        return self._embedded[text]

    def put(self, text: str, embedded: Embedded, fingerprint: str) -> None:
        """Keeps a vector; one of another model than the last one's drops all that are here."""
        if fingerprint != self._fingerprint:
            self._embedded.clear()
            self._fingerprint = fingerprint
        self._embedded[text] = embedded
        self._embedded.move_to_end(text)
        while len(self._embedded) > self._max_texts:
            self._embedded.popitem(last=False)
