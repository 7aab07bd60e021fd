"""What keeps the host from starting."""


class StartupError(Exception):
    """The app, its settings or its ``host.json`` can't be run; the message says what is wrong and what is allowed."""
