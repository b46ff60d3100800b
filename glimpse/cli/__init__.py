"""The `glimpse` command: the client for people, and the whole stack on one machine."""
