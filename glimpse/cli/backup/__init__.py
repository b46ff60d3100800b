"""Collections as Parquet files, which `glimpse export` writes and `glimpse import` reads, and
embeddings that others have written; needs pyarrow and numpy.

layout.py    what an export's files are called and hold
ahead.py     pages and tables made by a thread ahead of whoever takes them
writer.py    pages of a collection become files; an export that was cut is gone on with
rows.py      tables become batches to import
sources.py   which files a folder has, and whose: ours, Parquet of others, .npy with Parquet
foreign.py   columns of others become ours
position.py  how far an import has come, kept beside the files
transfer.py  one run of an import
report.py    what became of its rows
"""
