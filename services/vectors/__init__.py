"""The vector store behind one small interface; what a vector means is not its job.

store.py      the interface, its records, and `open_store`
bounds.py     what a name, an id, a row or a window may be
filters.py    typed filters, and how they are written as Milvus expressions
memory.py     the store in memory, by means of
  expressions.py  Milvus expressions read into typed filters
milvus/       the store in Milvus
"""
