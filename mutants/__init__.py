"""Takes out one guard of the protocol at a time, in a copy of the package, and runs what has to notice it."""
