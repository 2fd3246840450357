"""What went wrong, in one line for a person."""


class Fault(Exception):
    """A fault of the test host's, not of the command it runs."""
