"""What holds for all tests; fixtures stand with their tests."""

import os
import re

import pytest
from xdist.scheduler import LoadScopeScheduling

# gRPC restarts its threads in every forked child; between fork and exec of a process that a test
# starts they may crash there.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

# As `glimpse up` has it: threads of torch soon sleep while they wait for each other. Several
# processes share the processors here, and one that spins keeps them from those it waits for.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")


@pytest.fixture(scope="session", autouse=True)
def models_made_int8(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Encoders of tests keep theirs here, and find none of the person's who runs them."""
    os.environ["ENCODER_CACHE_DIR"] = str(tmp_path_factory.mktemp("encoder-cache"))


class Scheduling(LoadScopeScheduling):
    """What runs in one process, where several run tests: a file's tests, which may share a stack;
    and the contract's tests of one store, which share a Milvus server."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        store = re.search(r"[\[-](memory|lite|milvus|remote)[]-]", test)
        return store[1] if store and file.startswith("tests/contract/") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log) -> Scheduling:
    return Scheduling(config, log)
