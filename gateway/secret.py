"""A text that must not be seen."""


class Secret(str):
    """A text that must not be seen: however it is printed, stars come out, until it is revealed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret('***')"

    def __str__(self) -> str:
        return "***"

    def __format__(self, _spec: str) -> str:
        return "***"

    def reveal(self) -> str:
        """The text itself, for the one place that has to send it."""
        return str.__str__(self)
