"""`python -m services.indexer`: starts the indexer service; the wiring is main's."""

import sys

from services.indexer.main import main

if __name__ == "__main__":
    sys.exit(main())
