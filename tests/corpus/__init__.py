"""Picture files as people have them, each with what must become of it."""
