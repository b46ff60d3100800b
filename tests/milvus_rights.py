"""What the job that makes Milvus' users grants, right by right, and what requests need."""

from __future__ import annotations

import runpy
from typing import NamedTuple

from pymilvus.grpc_gen import common_pb2, milvus_pb2

from tests.k8s.manifests import K8S

SCRIPT = K8S / "jobs" / "milvus-users" / "create_users.py"

# Of Milvus 2.6, each with those of the level before; source: its documentation, "Create Privilege
# Group".
_READ = (
    "Query",
    "Search",
    "IndexDetail",
    "GetFlushState",
    "GetLoadState",
    "DescribeCollection",
    "GetStatistics",
)
_WRITE = ("Load", "Release", "Upsert", "Delete", "Flush", "CreateIndex", "DropIndex")
_RIGHTS = {
    "CollectionReadOnly": _READ,
    "CollectionAdmin": (*_READ, *_WRITE, "CreateAlias", "DropAlias"),
    "DatabaseReadOnly": ("ShowCollections",),
    "DatabaseAdmin": ("ShowCollections", "CreateCollection", "DropCollection"),
    "Load": ("Load",),
}


class Need(NamedTuple):
    """A right that a request needs, and the kind of object, by Milvus' name, that it is one of."""

    right: str
    kind: str


def granted(user: str) -> set[str]:
    """The rights of a service's user."""
    groups = runpy.run_path(str(SCRIPT))["GRANTS"][user]
    return {right for group in groups for right in _RIGHTS[group]}


def need_of(request: str) -> Need | None:
    """What a request of Milvus' contract needs; None where anybody may send it."""
    options = getattr(milvus_pb2, request).DESCRIPTOR.GetOptions()
    if not options.HasExtension(common_pb2.privilege_ext_obj):
        return None
    needed = options.Extensions[common_pb2.privilege_ext_obj]
    right = common_pb2.ObjectPrivilege.Name(needed.object_privilege).removeprefix("Privilege")
    return Need(right, common_pb2.ObjectType.Name(needed.object_type))


def kind_of(right: str) -> str:
    """The kind of object that it is a right of, as grants before Milvus 2.5 have to say."""
    needs = map(need_of, milvus_pb2.DESCRIPTOR.message_types_by_name)
    return next((need.kind for need in needs if need and need.right == right), "Global")
