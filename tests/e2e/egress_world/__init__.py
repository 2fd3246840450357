"""A small internet of our own, in network namespaces, for the tests of what a sandbox may reach."""
