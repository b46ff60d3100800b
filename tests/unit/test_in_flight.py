"""What an ingest holds: the places of pictures that are being read."""

from __future__ import annotations

from glimpse.in_flight import Entry, InFlight, IngestLimits
from glimpse.indexer.v1 import indexer_pb2
from glimpse.results import ImageFile


class CountedId(str):
    """An id that counts how often any is compared with another."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other):
        CountedId.compared += 1
        return str.__eq__(self, other)


def test_a_picture_is_not_compared_with_all_that_are_being_read():
    in_flight = InFlight(IngestLimits())
    CountedId.compared = 0
    for sequence in range(1_000):
        assert in_flight.reserve(sequence, CountedId(f"id-{sequence}"))
    assert CountedId.compared < 1_000


def test_a_place_is_free_for_its_id_once_the_picture_is_read_or_given_up():
    in_flight = InFlight(IngestLimits())
    for sequence in (0, 1):
        assert in_flight.reserve(sequence, "same")
        assert in_flight.begin()
        if sequence:
            in_flight.end_reading()
            in_flight.drop(sequence)
        else:
            request = indexer_pb2.IndexImagesRequest()
            assert in_flight.add(sequence, Entry(ImageFile(content=b"x"), request, 1))
    assert in_flight.reserve(2, "same")
