"""`make bench-scale`: a collection of any size, measured from the first row to the restart.

__main__.py  what is run, in which order, and what a run that was interrupted has left to do
stage.py     what the steps have in common: a server, the services, callers
room.py      what all of it needs of the disk
world.py     the rows: vectors, attributes, filters, and the exact neighbours of queries
filling.py   rows into the collection, while it is searched
building.py  until it has come to rest
steps.py     everything else that is measured on the full collection
kinds.py     kinds of index side by side
transfer.py  export and import beside bare pymilvus
progress.py  what is done, kept in a file; what is left, told
figures.py   figures and their bars, from what was measured
plots.py     line charts on a page
charts.py    which charts a run gives
sizing.py    docs/sizing.md's table of what was measured
"""
