"""The vector store behind one small interface.

store.py     the interface
records.py   what it holds: collections and rows
bounds.py    what a name, an id, a row or a window may be
filters.py   typed filters, and how they are written as Milvus expressions
milvus/      the store in Milvus
"""
