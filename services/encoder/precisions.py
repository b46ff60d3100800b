"""Chooses the precision that a model is computed in: the one that was asked for, or the fastest
that this processor has, int8 only where it agrees with fp32 on the weights that are loaded."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from torch import Tensor

from services.encoder.checkpoint import Checkpoint
from services.encoder.hardware import PrecisionUnusable, cpu_multiplies_int8_fastest
from services.encoder.int8_check import Agreement, in_int8
from services.encoder.int8_file import FileUnusable, Int8File
from services.encoder.model import ClipModel, choose_device
from services.encoder.settings import EncoderSettings
from services.encoder.shape import Shape

# In narrower layers, what int8 does before and behind a product costs what the product saves.
_LEAST_INT8_WIDTH = 512

log = logging.getLogger(__name__)


def load(checkpoint: Checkpoint, settings: EncoderSettings) -> tuple[ClipModel, Agreement | None]:
    """The model, and where it is in int8, how it agrees with fp32.

    Raises as ClipModel does; PrecisionUnusable also where int8 was asked for and agrees too little.
    """
    wanted, started_s = settings.precision, time.monotonic()
    try_int8 = wanted in ("int8", "auto") and choose_device(settings.device).type == "cpu"
    if not try_int8:
        return ClipModel(checkpoint, settings.device, wanted, settings.threads), None
    try:
        if wanted == "auto":
            _check_speed(checkpoint.shape)
        model, agreement = _load_int8(checkpoint, settings)
    except PrecisionUnusable as error:
        if wanted == "int8":
            raise PrecisionUnusable(f"{error}; take auto") from error
        model = ClipModel(checkpoint, "cpu", "auto", settings.threads)
        log.info("auto: %s, since %s", model.precision, error)
        return model, None
    why = "auto: int8, the fastest here," if wanted == "auto" else "int8"
    log.info("%s %s; loaded in %.1f s", why, agreement, time.monotonic() - started_s)
    return model, agreement


def _load_int8(checkpoint: Checkpoint, settings: EncoderSettings) -> tuple[ClipModel, Agreement]:
    """As an earlier start found it, or made and compared now. Raises PrecisionUnusable where it
    agrees too little."""
    file = Int8File(settings.cache_dir, checkpoint)
    try:
        if kept := file.read():
            check_agreement(kept.agreement, settings)
            if kept.tensors:
                in_file = replace(checkpoint, weights=kept.tensors)
                return ClipModel(in_file, "cpu", "int8", settings.threads), kept.agreement
    except FileUnusable as error:
        log.info("%s; int8 is made anew", error)
    made: dict[str, Tensor] = {}
    model, agreement = in_int8(checkpoint, settings.threads, made=made)
    try:
        check_agreement(agreement, settings)
    except PrecisionUnusable:
        made.clear()  # not worth the room
        raise
    finally:
        file.write(agreement, made if checkpoint.shape.image else {})  # a ResNet takes no others
    return model, agreement


def check_agreement(agreement: Agreement, settings: EncoderSettings) -> None:
    """Raises PrecisionUnusable where int8 agrees with fp32 less than the settings ask for."""
    for value, least, name in (
        (agreement.neighbours, settings.min_int8_neighbours, "NEIGHBOURS"),
        (agreement.least_cosine, settings.min_int8_cosine, "COSINE"),
    ):
        if not value >= least:  # NaN is too little
            raise PrecisionUnusable(
                f"int8 {agreement} on these weights, and ENCODER_MIN_INT8_{name} is {least}"
            )


def _check_speed(shape: Shape) -> None:
    """Raises PrecisionUnusable where int8 would not be the fastest."""
    if not cpu_multiplies_int8_fastest():
        raise PrecisionUnusable("int8 is not known to be fast on this processor")
    if shape.image is None or shape.image.width < _LEAST_INT8_WIDTH:
        raise PrecisionUnusable("int8 makes a model of this shape no faster")
