"""Asks a running glimpse for the images that fit a text.

python examples/python/search.py [--address 127.0.0.1:50053] [--collection images] [--limit 10] TEXT
"""

import argparse
import sys

from glimpse import Client, GlimpseError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--address", default="127.0.0.1:50053", help="of the query service")
    parser.add_argument("--collection", default="images")
    parser.add_argument("--limit", type=int, default=10, help="number of hits")
    parser.add_argument("text", nargs="+")
    given = parser.parse_args()

    # One client serves any number of calls and threads at once; make it once and keep it.
    with Client(given.address, timeout_s=5) as client:
        try:
            result = client.search(given.collection, " ".join(given.text), limit=given.limit)
        except GlimpseError as error:
            sys.exit(f"{error} ({error.reason or 'not reached'})")
    for hit in result.hits:
        print(f"{hit.score:.3f}  {hit.uri}")


if __name__ == "__main__":
    main()
