"""Until when the certificates that the settings name are valid, for Prometheus; what they are used
for is the job of services.common.tls and glimpse.transport.credentials."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.common.settings import ServiceSettings

_SUFFIXES = ("_cert_file", "_ca_file")


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
