"""The vector store in Milvus: Milvus Lite's server, a Milvus server, Zilliz Cloud.

store.py         the store's calls, each made of requests
connection.py    the connection, and requests within a deadline
errors.py        how Milvus' errors become ours
schema.py        how our records lie in a Milvus collection
generations.py   which Milvus collection a name means, and which there are of it
known_collections.py  what Milvus said of its collections
vector_index.py  building the index and loading it
index_progress.py  how long that will take
row_requests.py  reading and writing rows
ranking.py       searching them, equal scores in the order of their ids
metrics.py       what Milvus is asked, and how long it takes
"""
