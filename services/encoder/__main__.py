"""`python -m services.encoder`: starts the encoder service; the wiring is main's."""

import sys

from services.encoder.main import main

if __name__ == "__main__":
    sys.exit(main())
