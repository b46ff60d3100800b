from google.protobuf import struct_pb2 as _struct_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_INDEXED: _ClassVar[Outcome]
    OUTCOME_UNCHANGED: _ClassVar[Outcome]
    OUTCOME_FAILED: _ClassVar[Outcome]

class IndexKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INDEX_KIND_UNSPECIFIED: _ClassVar[IndexKind]
    INDEX_KIND_AUTO: _ClassVar[IndexKind]
    INDEX_KIND_FLAT: _ClassVar[IndexKind]
    INDEX_KIND_IVF_FLAT: _ClassVar[IndexKind]
    INDEX_KIND_IVF_SQ8: _ClassVar[IndexKind]
    INDEX_KIND_HNSW: _ClassVar[IndexKind]
    INDEX_KIND_HNSW_SQ: _ClassVar[IndexKind]
    INDEX_KIND_DISKANN: _ClassVar[IndexKind]

class Metric(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    METRIC_UNSPECIFIED: _ClassVar[Metric]
    METRIC_INNER_PRODUCT: _ClassVar[Metric]
    METRIC_COSINE: _ClassVar[Metric]
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_INDEXED: Outcome
OUTCOME_UNCHANGED: Outcome
OUTCOME_FAILED: Outcome
INDEX_KIND_UNSPECIFIED: IndexKind
INDEX_KIND_AUTO: IndexKind
INDEX_KIND_FLAT: IndexKind
INDEX_KIND_IVF_FLAT: IndexKind
INDEX_KIND_IVF_SQ8: IndexKind
INDEX_KIND_HNSW: IndexKind
INDEX_KIND_HNSW_SQ: IndexKind
INDEX_KIND_DISKANN: IndexKind
METRIC_UNSPECIFIED: Metric
METRIC_INNER_PRODUCT: Metric
METRIC_COSINE: Metric

class IndexImagesRequest(_message.Message):
    __slots__ = ("options", "image")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    options: IndexOptions
    image: Image
    def __init__(self, options: _Optional[_Union[IndexOptions, _Mapping]] = ..., image: _Optional[_Union[Image, _Mapping]] = ...) -> None: ...

class IndexOptions(_message.Message):
    __slots__ = ("collection", "create_collection", "force", "max_wait_ms", "keep_copies")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    CREATE_COLLECTION_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    MAX_WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    KEEP_COPIES_FIELD_NUMBER: _ClassVar[int]
    collection: str
    create_collection: bool
    force: bool
    max_wait_ms: int
    keep_copies: bool
    def __init__(self, collection: _Optional[str] = ..., create_collection: _Optional[bool] = ..., force: _Optional[bool] = ..., max_wait_ms: _Optional[int] = ..., keep_copies: _Optional[bool] = ...) -> None: ...

class Image(_message.Message):
    __slots__ = ("sequence", "id", "content", "uri", "metadata", "indexed_at_ms")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    URI_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    INDEXED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    id: str
    content: bytes
    uri: str
    metadata: _struct_pb2.Struct
    indexed_at_ms: int
    def __init__(self, sequence: _Optional[int] = ..., id: _Optional[str] = ..., content: _Optional[bytes] = ..., uri: _Optional[str] = ..., metadata: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., indexed_at_ms: _Optional[int] = ...) -> None: ...

class IndexImagesResponse(_message.Message):
    __slots__ = ("acknowledgement", "totals")
    ACKNOWLEDGEMENT_FIELD_NUMBER: _ClassVar[int]
    TOTALS_FIELD_NUMBER: _ClassVar[int]
    acknowledgement: Acknowledgement
    totals: Totals
    def __init__(self, acknowledgement: _Optional[_Union[Acknowledgement, _Mapping]] = ..., totals: _Optional[_Union[Totals, _Mapping]] = ...) -> None: ...

class Acknowledgement(_message.Message):
    __slots__ = ("sequence", "id", "outcome", "error")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    id: str
    outcome: Outcome
    error: _status_pb2.Status
    def __init__(self, sequence: _Optional[int] = ..., id: _Optional[str] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class Totals(_message.Message):
    __slots__ = ("indexed", "unchanged", "failed")
    INDEXED_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    indexed: int
    unchanged: int
    failed: int
    def __init__(self, indexed: _Optional[int] = ..., unchanged: _Optional[int] = ..., failed: _Optional[int] = ...) -> None: ...

class BatchIndexImagesRequest(_message.Message):
    __slots__ = ("options", "images")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    options: IndexOptions
    images: _containers.RepeatedCompositeFieldContainer[Image]
    def __init__(self, options: _Optional[_Union[IndexOptions, _Mapping]] = ..., images: _Optional[_Iterable[_Union[Image, _Mapping]]] = ...) -> None: ...

class BatchIndexImagesResponse(_message.Message):
    __slots__ = ("acknowledgements",)
    ACKNOWLEDGEMENTS_FIELD_NUMBER: _ClassVar[int]
    acknowledgements: _containers.RepeatedCompositeFieldContainer[Acknowledgement]
    def __init__(self, acknowledgements: _Optional[_Iterable[_Union[Acknowledgement, _Mapping]]] = ...) -> None: ...

class DeleteImagesRequest(_message.Message):
    __slots__ = ("collection", "ids", "filter")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    ids: Ids
    filter: str
    def __init__(self, collection: _Optional[str] = ..., ids: _Optional[_Union[Ids, _Mapping]] = ..., filter: _Optional[str] = ...) -> None: ...

class Ids(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, ids: _Optional[_Iterable[str]] = ...) -> None: ...

class DeleteImagesResponse(_message.Message):
    __slots__ = ("deleted",)
    DELETED_FIELD_NUMBER: _ClassVar[int]
    deleted: int
    def __init__(self, deleted: _Optional[int] = ...) -> None: ...

class CountImagesRequest(_message.Message):
    __slots__ = ("collection", "filter")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    filter: str
    def __init__(self, collection: _Optional[str] = ..., filter: _Optional[str] = ...) -> None: ...

class CountImagesResponse(_message.Message):
    __slots__ = ("count",)
    COUNT_FIELD_NUMBER: _ClassVar[int]
    count: int
    def __init__(self, count: _Optional[int] = ...) -> None: ...

class ListImagesRequest(_message.Message):
    __slots__ = ("collection", "filter", "after_id", "page_size", "output_fields", "packed", "bounded", "ids")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    AFTER_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELDS_FIELD_NUMBER: _ClassVar[int]
    PACKED_FIELD_NUMBER: _ClassVar[int]
    BOUNDED_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    collection: str
    filter: str
    after_id: str
    page_size: int
    output_fields: _containers.RepeatedScalarFieldContainer[str]
    packed: bool
    bounded: bool
    ids: Ids
    def __init__(self, collection: _Optional[str] = ..., filter: _Optional[str] = ..., after_id: _Optional[str] = ..., page_size: _Optional[int] = ..., output_fields: _Optional[_Iterable[str]] = ..., packed: _Optional[bool] = ..., bounded: _Optional[bool] = ..., ids: _Optional[_Union[Ids, _Mapping]] = ...) -> None: ...

class ListImagesResponse(_message.Message):
    __slots__ = ("images", "next_after_id")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    NEXT_AFTER_ID_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[ListedImage]
    next_after_id: str
    def __init__(self, images: _Optional[_Iterable[_Union[ListedImage, _Mapping]]] = ..., next_after_id: _Optional[str] = ...) -> None: ...

class ListedImage(_message.Message):
    __slots__ = ("id", "uri", "width", "height", "format", "metadata", "indexed_at_ms", "content_sha256", "vector", "packed_vector", "metadata_json")
    ID_FIELD_NUMBER: _ClassVar[int]
    URI_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    INDEXED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_SHA256_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    PACKED_VECTOR_FIELD_NUMBER: _ClassVar[int]
    METADATA_JSON_FIELD_NUMBER: _ClassVar[int]
    id: str
    uri: str
    width: int
    height: int
    format: str
    metadata: _struct_pb2.Struct
    indexed_at_ms: int
    content_sha256: str
    vector: _containers.RepeatedScalarFieldContainer[float]
    packed_vector: bytes
    metadata_json: str
    def __init__(self, id: _Optional[str] = ..., uri: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., format: _Optional[str] = ..., metadata: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., indexed_at_ms: _Optional[int] = ..., content_sha256: _Optional[str] = ..., vector: _Optional[_Iterable[float]] = ..., packed_vector: _Optional[bytes] = ..., metadata_json: _Optional[str] = ...) -> None: ...

class ImportImagesRequest(_message.Message):
    __slots__ = ("options", "batch")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    options: ImportOptions
    batch: ImportBatch
    def __init__(self, options: _Optional[_Union[ImportOptions, _Mapping]] = ..., batch: _Optional[_Union[ImportBatch, _Mapping]] = ...) -> None: ...

class ImportOptions(_message.Message):
    __slots__ = ("collection", "create_collection", "model_name", "model_fingerprint", "dimension", "metric", "normalise")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    CREATE_COLLECTION_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    DIMENSION_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    NORMALISE_FIELD_NUMBER: _ClassVar[int]
    collection: str
    create_collection: bool
    model_name: str
    model_fingerprint: str
    dimension: int
    metric: Metric
    normalise: bool
    def __init__(self, collection: _Optional[str] = ..., create_collection: _Optional[bool] = ..., model_name: _Optional[str] = ..., model_fingerprint: _Optional[str] = ..., dimension: _Optional[int] = ..., metric: _Optional[_Union[Metric, str]] = ..., normalise: _Optional[bool] = ...) -> None: ...

class ImportBatch(_message.Message):
    __slots__ = ("sequence", "images")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    images: _containers.RepeatedCompositeFieldContainer[ImportedImage]
    def __init__(self, sequence: _Optional[int] = ..., images: _Optional[_Iterable[_Union[ImportedImage, _Mapping]]] = ...) -> None: ...

class ImportedImage(_message.Message):
    __slots__ = ("id", "vector", "uri", "width", "height", "format", "metadata_json", "indexed_at_ms", "content_sha256")
    ID_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    URI_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    METADATA_JSON_FIELD_NUMBER: _ClassVar[int]
    INDEXED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_SHA256_FIELD_NUMBER: _ClassVar[int]
    id: str
    vector: bytes
    uri: str
    width: int
    height: int
    format: str
    metadata_json: str
    indexed_at_ms: int
    content_sha256: str
    def __init__(self, id: _Optional[str] = ..., vector: _Optional[bytes] = ..., uri: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., format: _Optional[str] = ..., metadata_json: _Optional[str] = ..., indexed_at_ms: _Optional[int] = ..., content_sha256: _Optional[str] = ...) -> None: ...

class ImportImagesResponse(_message.Message):
    __slots__ = ("acknowledgement", "totals")
    ACKNOWLEDGEMENT_FIELD_NUMBER: _ClassVar[int]
    TOTALS_FIELD_NUMBER: _ClassVar[int]
    acknowledgement: ImportAcknowledgement
    totals: ImportTotals
    def __init__(self, acknowledgement: _Optional[_Union[ImportAcknowledgement, _Mapping]] = ..., totals: _Optional[_Union[ImportTotals, _Mapping]] = ...) -> None: ...

class ImportAcknowledgement(_message.Message):
    __slots__ = ("sequence", "written", "rejected")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    written: int
    rejected: _containers.RepeatedCompositeFieldContainer[RejectedImage]
    def __init__(self, sequence: _Optional[int] = ..., written: _Optional[int] = ..., rejected: _Optional[_Iterable[_Union[RejectedImage, _Mapping]]] = ...) -> None: ...

class RejectedImage(_message.Message):
    __slots__ = ("index", "id", "error")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    index: int
    id: str
    error: _status_pb2.Status
    def __init__(self, index: _Optional[int] = ..., id: _Optional[str] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class ImportTotals(_message.Message):
    __slots__ = ("written", "rejected")
    WRITTEN_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    written: int
    rejected: int
    def __init__(self, written: _Optional[int] = ..., rejected: _Optional[int] = ...) -> None: ...

class CreateCollectionRequest(_message.Message):
    __slots__ = ("collection", "index_kind", "metric")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    INDEX_KIND_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    collection: str
    index_kind: IndexKind
    metric: Metric
    def __init__(self, collection: _Optional[str] = ..., index_kind: _Optional[_Union[IndexKind, str]] = ..., metric: _Optional[_Union[Metric, str]] = ...) -> None: ...

class CreateCollectionResponse(_message.Message):
    __slots__ = ("collection",)
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    collection: Collection
    def __init__(self, collection: _Optional[_Union[Collection, _Mapping]] = ...) -> None: ...

class Collection(_message.Message):
    __slots__ = ("name", "model_name", "model_fingerprint", "dimension", "index_kind", "index_state", "metric", "rows", "bytes", "created_at_ms", "error", "indexed_rows", "pending_rows", "index_left_ms", "described_at_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    DIMENSION_FIELD_NUMBER: _ClassVar[int]
    INDEX_KIND_FIELD_NUMBER: _ClassVar[int]
    INDEX_STATE_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    INDEXED_ROWS_FIELD_NUMBER: _ClassVar[int]
    PENDING_ROWS_FIELD_NUMBER: _ClassVar[int]
    INDEX_LEFT_MS_FIELD_NUMBER: _ClassVar[int]
    DESCRIBED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    model_name: str
    model_fingerprint: str
    dimension: int
    index_kind: IndexKind
    index_state: str
    metric: Metric
    rows: int
    bytes: int
    created_at_ms: int
    error: _status_pb2.Status
    indexed_rows: int
    pending_rows: int
    index_left_ms: int
    described_at_ms: int
    def __init__(self, name: _Optional[str] = ..., model_name: _Optional[str] = ..., model_fingerprint: _Optional[str] = ..., dimension: _Optional[int] = ..., index_kind: _Optional[_Union[IndexKind, str]] = ..., index_state: _Optional[str] = ..., metric: _Optional[_Union[Metric, str]] = ..., rows: _Optional[int] = ..., bytes: _Optional[int] = ..., created_at_ms: _Optional[int] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., indexed_rows: _Optional[int] = ..., pending_rows: _Optional[int] = ..., index_left_ms: _Optional[int] = ..., described_at_ms: _Optional[int] = ...) -> None: ...

class GetCollectionRequest(_message.Message):
    __slots__ = ("collection", "exact_rows")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    EXACT_ROWS_FIELD_NUMBER: _ClassVar[int]
    collection: str
    exact_rows: bool
    def __init__(self, collection: _Optional[str] = ..., exact_rows: _Optional[bool] = ...) -> None: ...

class GetCollectionResponse(_message.Message):
    __slots__ = ("collection",)
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    collection: Collection
    def __init__(self, collection: _Optional[_Union[Collection, _Mapping]] = ...) -> None: ...

class ListCollectionsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "exact_rows")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXACT_ROWS_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    exact_rows: bool
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., exact_rows: _Optional[bool] = ...) -> None: ...

class ListCollectionsResponse(_message.Message):
    __slots__ = ("collections", "next_page_token")
    COLLECTIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    collections: _containers.RepeatedCompositeFieldContainer[Collection]
    next_page_token: str
    def __init__(self, collections: _Optional[_Iterable[_Union[Collection, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DropCollectionRequest(_message.Message):
    __slots__ = ("collection", "confirm")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    CONFIRM_FIELD_NUMBER: _ClassVar[int]
    collection: str
    confirm: str
    def __init__(self, collection: _Optional[str] = ..., confirm: _Optional[str] = ...) -> None: ...

class DropCollectionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Generation(_message.Message):
    __slots__ = ("number", "serving", "collection")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    SERVING_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    number: int
    serving: bool
    collection: Collection
    def __init__(self, number: _Optional[int] = ..., serving: _Optional[bool] = ..., collection: _Optional[_Union[Collection, _Mapping]] = ...) -> None: ...

class CreateGenerationRequest(_message.Message):
    __slots__ = ("collection", "model_fingerprint", "index_kind", "metric")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    INDEX_KIND_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    collection: str
    model_fingerprint: str
    index_kind: IndexKind
    metric: Metric
    def __init__(self, collection: _Optional[str] = ..., model_fingerprint: _Optional[str] = ..., index_kind: _Optional[_Union[IndexKind, str]] = ..., metric: _Optional[_Union[Metric, str]] = ...) -> None: ...

class CreateGenerationResponse(_message.Message):
    __slots__ = ("generation",)
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    generation: Generation
    def __init__(self, generation: _Optional[_Union[Generation, _Mapping]] = ...) -> None: ...

class ListGenerationsRequest(_message.Message):
    __slots__ = ("collection", "exact_rows")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    EXACT_ROWS_FIELD_NUMBER: _ClassVar[int]
    collection: str
    exact_rows: bool
    def __init__(self, collection: _Optional[str] = ..., exact_rows: _Optional[bool] = ...) -> None: ...

class ListGenerationsResponse(_message.Message):
    __slots__ = ("generations",)
    GENERATIONS_FIELD_NUMBER: _ClassVar[int]
    generations: _containers.RepeatedCompositeFieldContainer[Generation]
    def __init__(self, generations: _Optional[_Iterable[_Union[Generation, _Mapping]]] = ...) -> None: ...

class HoldWritesRequest(_message.Message):
    __slots__ = ("collection", "generation", "hold_ms")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    HOLD_MS_FIELD_NUMBER: _ClassVar[int]
    collection: str
    generation: int
    hold_ms: int
    def __init__(self, collection: _Optional[str] = ..., generation: _Optional[int] = ..., hold_ms: _Optional[int] = ...) -> None: ...

class HoldWritesResponse(_message.Message):
    __slots__ = ("held_until_ms",)
    HELD_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    held_until_ms: int
    def __init__(self, held_until_ms: _Optional[int] = ...) -> None: ...

class SwitchGenerationRequest(_message.Message):
    __slots__ = ("collection", "generation", "expected", "held_until_ms")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    HELD_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    collection: str
    generation: int
    expected: int
    held_until_ms: int
    def __init__(self, collection: _Optional[str] = ..., generation: _Optional[int] = ..., expected: _Optional[int] = ..., held_until_ms: _Optional[int] = ...) -> None: ...

class SwitchGenerationResponse(_message.Message):
    __slots__ = ("generation",)
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    generation: Generation
    def __init__(self, generation: _Optional[_Union[Generation, _Mapping]] = ...) -> None: ...

class DropGenerationRequest(_message.Message):
    __slots__ = ("collection", "generation", "confirm")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    CONFIRM_FIELD_NUMBER: _ClassVar[int]
    collection: str
    generation: int
    confirm: str
    def __init__(self, collection: _Optional[str] = ..., generation: _Optional[int] = ..., confirm: _Optional[str] = ...) -> None: ...

class DropGenerationResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
