"""A model is changed for another while searches, writes and kills go on: `make upgrade`."""
