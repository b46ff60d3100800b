"""What all tests need before anything else is imported; fixtures stand with their tests."""

import os

# gRPC restarts its threads in every forked child; between fork and exec of a process that a test
# starts they may crash there.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
