"""Measurements of the services beside what a tutorial's loop does on the same machine."""
