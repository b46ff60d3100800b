"""The vector store behind one small interface; what a vector means is not its job.

store.py      the interface, its records, and `open_store`
bounds.py     what a name, an id, a row or a window may be
filters.py    typed filters, and how they are written as Milvus expressions
expressions.py  Milvus expressions read back into typed filters (for the in-memory store)
memory.py     the store in memory
milvus.py     the store in Milvus: Milvus Lite, a Milvus server, Zilliz Cloud
schema.py     how our records lie in a Milvus collection
faults.py     how Milvus' errors become ours

Only milvus.py, schema.py and faults.py know pymilvus.
"""
