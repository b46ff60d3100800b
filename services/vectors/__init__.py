"""The vector store behind one small interface; what a vector means is not its job.

store.py      the interface, its records, and `open_store`
bounds.py     what a name, an id, a row or a window may be
filters.py    typed filters, and how they are written as Milvus expressions
memory.py     the store in memory, by means of
  expressions.py  Milvus expressions read into typed filters
milvus.py     the store in Milvus: Milvus Lite, a Milvus server, Zilliz Cloud, by means of
  connection.py   requests within a deadline
  faults.py       how Milvus' errors become ours
  schema.py       how our records lie in a Milvus collection
  indexing.py     the vector index
  rowwise.py      reading and writing rows
"""
