"""Names in the environment that look like settings and are none, each with the one it may be meant
to be; what the values of settings are is services.common.settings' job."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator

from services.common.settings import ServiceSettings

# What Kubernetes tells every container about each Service of its namespace: QUERY_SERVICE_HOST,
# QUERY_PORT_50053_TCP_ADDR and so on for a Service that is called query.
_OF_KUBERNETES = re.compile(r"(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")


def unknown_settings(kind: type[ServiceSettings], names: Iterable[str]) -> Iterator[str]:
    """A line about each name that begins as a service's settings do and is none of them."""
    prefix = kind.prefix()
    known = [name.upper() for name in kind.model_fields]
    for name in sorted({name.upper() for name in names}):
        rest = name.removeprefix(prefix)
        if name.startswith(prefix) and rest not in known and not _OF_KUBERNETES.fullmatch(rest):
            nearest = difflib.get_close_matches(rest, known, 1)
            meant = f": is {prefix}{nearest[0]} meant?" if nearest else ""
            yield f"{name} is no setting of {prefix.rstrip('_').lower()}{meant}"
