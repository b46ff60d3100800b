"""Until when the certificates that the settings name are valid, for Prometheus and the log; what
they are used for is the job of services.common.tls and glimpse.transport.credentials."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.common.settings import ServiceSettings

_SUFFIXES = ("_cert_file", "_ca_file")
_SOON_S = 14 * 86_400.0  # as the alert GlimpseCertificateExpires
_LOOK_EVERY_S = 60.0

log = logging.getLogger(__name__)


class CertificateCollector(Collector):
    """Reads the files when Prometheus asks: what is in them now is what new connections get.

    A file that cannot be read or parsed has no sample; that its old content stays in use is in the
    log.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._paths: dict[str, Path] = {
            f"{settings.prefix()}{name.upper()}": value
            for name, value in settings
            if name.endswith(_SUFFIXES) and value is not None
        }
        self._told: dict[str, tuple[float, bool]] = {}

    async def watch(self) -> None:
        """Calls log_expiry once a minute: files are replaced, and time goes on."""
        while self._paths:
            await asyncio.sleep(_LOOK_EVERY_S)
            await asyncio.to_thread(self.log_expiry)

    def log_expiry(self) -> None:
        """Says which have expired, or will within two weeks: of each certificate, each once."""
        for setting, path in self._paths.items():
            not_after_s = _first_expiry_s(path)
            if not_after_s is None or not_after_s - time.time() > _SOON_S:
                continue
            has_expired = not_after_s < time.time()
            if self._told.get(setting) == (not_after_s, has_expired):
                continue
            self._told[setting] = not_after_s, has_expired
            when = datetime.fromtimestamp(not_after_s, timezone.utc).isoformat(timespec="seconds")
            if has_expired:
                log.error(
                    "%s: a certificate in %s expired at %s: peers refuse it", setting, path, when
                )
            else:
                log.warning("%s: a certificate in %s expires at %s", setting, path, when)

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "glimpse_tls_not_after_timestamp_seconds",
            "When the first certificate of the file that a setting names expires, in Unix time",
            labels=["setting"],
        )
        for setting, path in self._paths.items():
            if (not_after_s := _first_expiry_s(path)) is not None:
                family.add_metric([setting], not_after_s)
        yield family


def _first_expiry_s(path: Path) -> float | None:
    from cryptography import x509  # where there is TLS; others need not load it

    try:
        certificates = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        return None
    return min(each.not_valid_after_utc for each in certificates).timestamp()
