"""The drawn world that the bundled model knows: its pictures, its words, its training."""
