"""`python -m services.indexer`: starts the indexer service; the wiring is main's."""

import sys

from services.common.memory import share_heap
from services.common.threads import hand_over_soon

if __name__ == "__main__":
    share_heap()  # before what is imported here starts threads
    hand_over_soon()
    from services.indexer.main import main

    sys.exit(main())
