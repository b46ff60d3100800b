"""`python -m services.indexer`: starts the indexer service; the wiring is main's."""

import sys

from services.common.memory import share_heap

if __name__ == "__main__":
    share_heap()  # before what is imported here starts threads
    from services.indexer.main import main

    sys.exit(main())
