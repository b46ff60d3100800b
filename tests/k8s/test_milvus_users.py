"""The job that makes Milvus' users, against a Milvus that knows of nothing but users."""

import inspect
import re
import runpy

import grpc
import pytest
from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from tests.k8s.manifests import K8S
from tests.milvus_rights import SCRIPT, granted, need_of

STORE = K8S.parents[1] / "services" / "vectors" / "milvus"
# The requests of pymilvus' methods, where they are not named like them.
REQUESTS = {
    "list_collections": ["ShowCollections"],
    "alter_collection_properties": ["AlterCollection"],
    "get_collection_stats": ["GetCollectionStatistics"],
    "get_load_state": ["GetLoadState", "GetLoadingProgress"],
    "load_collection": ["LoadCollection", "GetLoadingProgress"],
    "flush": ["Flush", "GetFlushState"],
}
BY_QUERY = ["describe_collection", "query", "search", "get_load_state", "load_collection"]
PASSWORDS = {"ROOT_PASSWORD": "r", "INDEXER_PASSWORD": "i", "QUERY_PASSWORD": "q"}


class Milvus:
    """Users with passwords and roles, roles with grants; made with its well-known password."""

    def __init__(self):
        self.passwords = {"root": "Milvus"}
        self.roles = {}
        self.grants = set()
        self.databases = ["default"]

    def client(self, uri, user, password):
        if self.passwords.get(user) != password:
            raise MilvusException(message=f"{user} is not let in")
        return Connection(self)


class Connection:
    """MilvusClient's calls about users; one that it would not take is a TypeError here too."""

    def __init__(self, milvus):
        self._milvus = milvus

    def __getattribute__(self, name):
        call = super().__getattribute__(name)
        if name.startswith("_"):
            return call
        real = inspect.signature(getattr(MilvusClient, name))

        def checked(*args, **options):
            real.bind(self, *args, **options)
            return call(*args, **options)

        return checked

    def close(self):
        pass

    def list_users(self):
        return list(self._milvus.passwords)

    def list_roles(self):
        return list(self._milvus.roles)

    def list_databases(self):
        return list(self._milvus.databases)

    def create_database(self, name):
        assert name not in self._milvus.databases
        self._milvus.databases.append(name)

    def update_password(self, name, old, new):
        assert self._milvus.passwords[name] == old
        self._milvus.passwords[name] = new

    def create_user(self, name, password):
        assert name not in self._milvus.passwords
        self._milvus.passwords[name] = password

    def drop_user(self, name):
        del self._milvus.passwords[name]

    def create_role(self, name):
        assert name not in self._milvus.roles
        self._milvus.roles[name] = set()

    def grant_role(self, user, role):
        assert user in self._milvus.passwords
        self._milvus.roles[role].add(user)

    def grant_privilege_v2(self, role, privilege, collection_name, db_name):
        assert role in self._milvus.roles
        self._milvus.grants.add((role, privilege))


@pytest.fixture
def milvus(monkeypatch):
    made = Milvus()
    monkeypatch.setattr("pymilvus.MilvusClient", made.client)
    monkeypatch.setenv("MILVUS_URI", "http://milvus")
    return made


@pytest.fixture
def run(monkeypatch):
    def run(**passwords):
        for name, value in {**PASSWORDS, **passwords}.items():
            monkeypatch.setenv(name, value)
        return runpy.run_path(str(SCRIPT))["main"]()

    return run


def test_root_gets_a_password_and_services_users_with_no_more_than_they_need(milvus, run):
    assert run() == 0
    assert milvus.passwords == {"root": "r", "indexer": "i", "query": "q"}
    assert milvus.roles == {"indexer": {"indexer"}, "query": {"query"}}
    of_query = {privilege for role, privilege in milvus.grants if role == "query"}
    assert of_query == {"CollectionReadOnly", "DatabaseReadOnly", "Load"}


def needed(methods):
    """The rights that requests need, as Milvus' contracts say."""
    for method in methods:
        like_it = "".join(map(str.capitalize, method.split("_")))
        for request in REQUESTS.get(method, [like_it]):
            if (need := need_of(f"{request}Request")) is not None:
                yield need.right


def test_the_services_may_send_all_requests_that_the_store_makes():
    sent = r"(?:\bcall|\bfind|_send)\(\s*\"(\w+)\""
    methods = {each for path in STORE.glob("*.py") for each in re.findall(sent, path.read_text())}
    assert {"alter_collection_properties", "create_alias", *BY_QUERY} <= methods
    for service, its_methods in {"indexer": methods, "query": BY_QUERY}.items():
        assert set(needed(its_methods)) <= granted(service), service


def test_run_again_it_brings_the_services_to_their_new_passwords(milvus, run):
    run()
    assert run(QUERY_PASSWORD="new") == 0
    assert milvus.passwords == {"root": "r", "indexer": "i", "query": "new"}


def test_a_database_that_is_named_is_there_after_any_number_of_runs(milvus, run, monkeypatch):
    monkeypatch.setenv("MILVUS_DATABASE", "pictures")
    assert [run(), run()] == [0, 0]
    assert milvus.databases == ["default", "pictures"]


def test_a_milvus_that_refuses_is_one_line_and_a_job_that_failed(milvus, run, capsys):
    milvus.passwords["root"] = "somebody else's"
    assert run() == 1
    assert capsys.readouterr().out == "Milvus: root is not let in\n"


def test_a_milvus_that_has_no_groups_of_rights_is_one_line_too(milvus, run, capsys, monkeypatch):
    class Unimplemented(grpc.RpcError):
        def code(self):
            return grpc.StatusCode.UNIMPLEMENTED

    def refuse(self, role, privilege, collection_name, db_name):
        raise Unimplemented

    monkeypatch.setattr(Connection, "grant_privilege_v2", refuse)
    assert run() == 1
    assert "older than 2.5" in capsys.readouterr().out
