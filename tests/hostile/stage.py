"""What is there before the attacks: collections, pictures, and rows of equal vectors."""

from __future__ import annotations

import grpc
import numpy as np
from numpy.typing import NDArray

from benchmarks.vectors import clustered, insert
from glimpse.cli.local.stack import Stack
from glimpse.client import Client
from glimpse.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from glimpse.indexer.v1 import indexer_pb2
from glimpse.results import ImageFile
from tests.hostile.contracts import ATTACKED, NEIGHBOURS, well_formed
from tests.hostile.ties import DIFFERENT, ROWS, TEXT, TIES
from tests.robustness.messages import picture

_PICTURES = 100
_COLLECTIONS = 50  # with the four that are used
_TIMEOUT_S = 60.0


def fill(stack: Stack) -> None:
    """Pictures for the neighbours and for the attackers, ties, and collections beside them."""
    others = [f"other{number}" for number in range(_COLLECTIONS - 4)]
    with Client(stack.query, stack.indexer, timeout_s=_TIMEOUT_S) as client:
        for name in (NEIGHBOURS, ATTACKED, TIES, DIFFERENT, *others):
            client.create_collection(name)
        for name in (NEIGHBOURS, ATTACKED):
            images = (
                ImageFile(id=f"{n}", content=picture(8 + n % 50, 8 + n // 50))
                for n in range(_PICTURES)
            )
            with client.index(name, images) as ingest:
                for acknowledgement in ingest:
                    if acknowledgement.error is not None:
                        raise RuntimeError(f"a picture was not indexed: {acknowledgement}")
        imported = indexer_pb2.ImportOptions(create_collection=True)
        imported.MergeFrom(well_formed(imported.DESCRIPTOR))
        list(client.import_images(imported).run([]))  # nothing, into a collection that is made
    vector = _vector(stack.addresses["encoder"], TEXT)
    insert(stack.milvus_uri, TIES, np.tile(vector, (ROWS, 1)))
    insert(stack.milvus_uri, DIFFERENT, clustered(ROWS, len(vector), seed=1))


def _vector(encoder: str, text: str) -> NDArray[np.float32]:
    with grpc.insecure_channel(encoder) as channel:
        stub = encoder_pb2_grpc.EncoderStub(channel)
        answer = stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=[text]), timeout=_TIMEOUT_S)
    return np.array(answer.results[0].embedding.values, np.float32)
