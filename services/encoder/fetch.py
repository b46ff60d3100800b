"""`python -m services.encoder.fetch`: has the weights in place before the encoder starts.

The settings are the encoder's. Standard output gets the weights' path, or why there are none;
progress goes to standard error. The encoder itself does the same at its start: this is for whoever
wants to wait for the weights in the foreground.
"""

from __future__ import annotations

import sys

from services.common import telemetry
from services.common.settings import load
from services.encoder.download import DownloadError, locate
from services.encoder.settings import EncoderSettings


def main() -> int:
    """Returns the exit code: 2 when the weights cannot be had."""
    settings = load(EncoderSettings)
    telemetry.set_up_logs(settings.log_level, "text", settings.service)
    try:
        print(locate(settings.model, settings.cache_dir, settings.weights_url).path)
    except DownloadError as error:
        print(error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
