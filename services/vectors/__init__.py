"""The vector store behind one small interface.

store.py     the interface
records.py   what it holds: collections and rows
bounds.py    what a name, an id, a row or a window may be
generation_names.py  how the generations of a collection are named
filters.py   typed filters, and how they are written as Milvus expressions
expressions.py  how much of that Milvus may be given
milvus/      the store in Milvus
"""
