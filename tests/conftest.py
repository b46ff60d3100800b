"""What all tests need before anything else is imported; fixtures stand with their tests."""

import os

import pytest

# gRPC restarts its threads in every forked child; between fork and exec of a process that a test
# starts they may crash there.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of a file share a worker, and what they start. The stores' contract is one group:
    a machine can run only one Milvus server."""
    for item in items:
        in_contract = item.path.parent.name == "contract"
        item.add_marker(pytest.mark.xdist_group("contract" if in_contract else item.path.stem))
