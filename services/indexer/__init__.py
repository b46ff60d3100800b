"""The indexer service: images in, rows of a Milvus collection out; and the collections."""
