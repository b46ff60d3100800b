"""Gives Milvus' root a password of one's own, the services users with no more than they need, and,
where MILVUS_DATABASE names one, a database.

May be run again at any time: what is there already is brought to the passwords that are given.
"""

from __future__ import annotations

import logging
import os
import sys

import grpc
from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

INITIAL_ROOT_PASSWORD = "Milvus"  # noqa: S105
"""What Milvus starts with; source: its documentation, "Authenticate user access"."""

# Milvus' own groups of privileges, from 2.5 on. Query loads a collection that was released.
GRANTS = {
    "indexer": ("CollectionAdmin", "DatabaseAdmin"),
    "query": ("CollectionReadOnly", "DatabaseReadOnly", "Load"),
}


def connect(user: str, password: str) -> MilvusClient:
    """A connection that Milvus has let in. Raises MilvusException."""
    secure = {"server_pem_path": path} if (path := os.environ.get("MILVUS_CA_FILE")) else {}
    client = MilvusClient(os.environ["MILVUS_URI"], user=user, password=password, **secure)
    client.list_users()
    return client


def root(password: str) -> MilvusClient:
    """Root's connection; its password is `password` from now on. Raises MilvusException."""
    try:
        return connect("root", password)
    except MilvusException:
        first = connect("root", INITIAL_ROOT_PASSWORD)
    first.update_password("root", INITIAL_ROOT_PASSWORD, password)
    first.close()
    return connect("root", password)


def create(client: MilvusClient, name: str, password: str) -> None:
    """A user and a role of this name, the role's grants, and this password."""
    if name in client.list_users():
        client.drop_user(name)  # the password of before may not be known any more
    if name not in client.list_roles():
        client.create_role(name)
    for privilege in GRANTS[name]:
        client.grant_privilege_v2(name, privilege, collection_name="*", db_name="*")
    client.create_user(name, password)
    client.grant_role(name, name)


def create_database(client: MilvusClient, name: str) -> None:
    """The database, unless it is there already."""
    if name not in client.list_databases():
        client.create_database(name)
        print(f"database {name} is created")


def main() -> int:
    """Returns 1, after one line, when Milvus cannot be reached or refuses."""
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    try:
        client = root(os.environ["ROOT_PASSWORD"])
        if database := os.environ.get("MILVUS_DATABASE"):
            create_database(client, database)
        for name in GRANTS:
            create(client, name, os.environ[f"{name.upper()}_PASSWORD"])
            print(f"user {name} is set up")
    except MilvusException as error:
        print(f"Milvus: {error.message}")
        return 1
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
            raise
        print("Milvus: it is older than 2.5, and has no groups of privileges to grant")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
