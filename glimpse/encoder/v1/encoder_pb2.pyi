from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_INTERACTIVE: _ClassVar[Priority]
    PRIORITY_BULK: _ClassVar[Priority]

class Resize(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESIZE_UNSPECIFIED: _ClassVar[Resize]
    RESIZE_CROP: _ClassVar[Resize]
    RESIZE_STRETCH: _ClassVar[Resize]
    RESIZE_CROP_DOWN: _ClassVar[Resize]

class Interpolation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INTERPOLATION_UNSPECIFIED: _ClassVar[Interpolation]
    INTERPOLATION_BICUBIC: _ClassVar[Interpolation]
    INTERPOLATION_BILINEAR: _ClassVar[Interpolation]
PRIORITY_UNSPECIFIED: Priority
PRIORITY_INTERACTIVE: Priority
PRIORITY_BULK: Priority
RESIZE_UNSPECIFIED: Resize
RESIZE_CROP: Resize
RESIZE_STRETCH: Resize
RESIZE_CROP_DOWN: Resize
INTERPOLATION_UNSPECIFIED: Interpolation
INTERPOLATION_BICUBIC: Interpolation
INTERPOLATION_BILINEAR: Interpolation

class EncodeTextsRequest(_message.Message):
    __slots__ = ("texts", "prompt_template")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    prompt_template: str
    def __init__(self, texts: _Optional[_Iterable[str]] = ..., prompt_template: _Optional[str] = ...) -> None: ...

class EncodeTextsResponse(_message.Message):
    __slots__ = ("results", "model_fingerprint", "timing", "prompt_template")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[TextResult]
    model_fingerprint: str
    timing: Timing
    prompt_template: str
    def __init__(self, results: _Optional[_Iterable[_Union[TextResult, _Mapping]]] = ..., model_fingerprint: _Optional[str] = ..., timing: _Optional[_Union[Timing, _Mapping]] = ..., prompt_template: _Optional[str] = ...) -> None: ...

class TextResult(_message.Message):
    __slots__ = ("embedding", "error", "truncated")
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    embedding: Embedding
    error: _status_pb2.Status
    truncated: bool
    def __init__(self, embedding: _Optional[_Union[Embedding, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., truncated: _Optional[bool] = ...) -> None: ...

class EncodeImagesRequest(_message.Message):
    __slots__ = ("images", "priority")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[Image]
    priority: Priority
    def __init__(self, images: _Optional[_Iterable[_Union[Image, _Mapping]]] = ..., priority: _Optional[_Union[Priority, str]] = ...) -> None: ...

class Image(_message.Message):
    __slots__ = ("file", "pixels")
    FILE_FIELD_NUMBER: _ClassVar[int]
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    file: bytes
    pixels: bytes
    def __init__(self, file: _Optional[bytes] = ..., pixels: _Optional[bytes] = ...) -> None: ...

class EncodeImagesResponse(_message.Message):
    __slots__ = ("results", "model_fingerprint", "timing")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[ImageResult]
    model_fingerprint: str
    timing: Timing
    def __init__(self, results: _Optional[_Iterable[_Union[ImageResult, _Mapping]]] = ..., model_fingerprint: _Optional[str] = ..., timing: _Optional[_Union[Timing, _Mapping]] = ...) -> None: ...

class ImageResult(_message.Message):
    __slots__ = ("embedding", "error")
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    embedding: Embedding
    error: _status_pb2.Status
    def __init__(self, embedding: _Optional[_Union[Embedding, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class Embedding(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("queue_us", "encode_us")
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    ENCODE_US_FIELD_NUMBER: _ClassVar[int]
    queue_us: int
    encode_us: int
    def __init__(self, queue_us: _Optional[int] = ..., encode_us: _Optional[int] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model", "limits")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    model: Model
    limits: Limits
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "fingerprint", "dimension", "image_size", "context_length", "precision", "device", "preprocessing_version", "int8_cosine", "resize", "interpolation", "prompt_template", "int8_neighbours")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    DIMENSION_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    PREPROCESSING_VERSION_FIELD_NUMBER: _ClassVar[int]
    INT8_COSINE_FIELD_NUMBER: _ClassVar[int]
    RESIZE_FIELD_NUMBER: _ClassVar[int]
    INTERPOLATION_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    INT8_NEIGHBOURS_FIELD_NUMBER: _ClassVar[int]
    name: str
    fingerprint: str
    dimension: int
    image_size: int
    context_length: int
    precision: str
    device: str
    preprocessing_version: str
    int8_cosine: float
    resize: Resize
    interpolation: Interpolation
    prompt_template: str
    int8_neighbours: float
    def __init__(self, name: _Optional[str] = ..., fingerprint: _Optional[str] = ..., dimension: _Optional[int] = ..., image_size: _Optional[int] = ..., context_length: _Optional[int] = ..., precision: _Optional[str] = ..., device: _Optional[str] = ..., preprocessing_version: _Optional[str] = ..., int8_cosine: _Optional[float] = ..., resize: _Optional[_Union[Resize, str]] = ..., interpolation: _Optional[_Union[Interpolation, str]] = ..., prompt_template: _Optional[str] = ..., int8_neighbours: _Optional[float] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_texts", "max_text_characters", "max_images", "max_file_bytes", "max_image_pixels", "max_message_bytes")
    MAX_TEXTS_FIELD_NUMBER: _ClassVar[int]
    MAX_TEXT_CHARACTERS_FIELD_NUMBER: _ClassVar[int]
    MAX_IMAGES_FIELD_NUMBER: _ClassVar[int]
    MAX_FILE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_IMAGE_PIXELS_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    max_texts: int
    max_text_characters: int
    max_images: int
    max_file_bytes: int
    max_image_pixels: int
    max_message_bytes: int
    def __init__(self, max_texts: _Optional[int] = ..., max_text_characters: _Optional[int] = ..., max_images: _Optional[int] = ..., max_file_bytes: _Optional[int] = ..., max_image_pixels: _Optional[int] = ..., max_message_bytes: _Optional[int] = ...) -> None: ...
