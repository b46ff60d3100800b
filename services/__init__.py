"""The glimpse services; each sub-package is started with `python -m services.<name>`."""
