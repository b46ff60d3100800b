"""`python -m services.query`: starts the query service; the wiring is main's."""

import sys

from services.query.main import main

if __name__ == "__main__":
    sys.exit(main())
