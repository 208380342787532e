"""Errors that say what was wrong, what was expected and got, and what to do."""


class SmcinferError(ValueError):
    """Base of every error this package raises on purpose, before any work starts.

    Args:
        what: the fault, one clause.
        expected: what would have been right.
        got: what came instead.
        hint: what to do about it.
    """

    def __init__(self, what: str, *, expected: object = None, got: object = None, hint: str = "") -> None:
        lines = [what]
        if expected is not None:
            lines.append(f"  expected: {expected}")
        if got is not None:
            lines.append(f"  got:      {got}")
        if hint:
            lines.append(f"  to fix:   {hint}")
        super().__init__("\n".join(lines))


class ArgumentError(SmcinferError):
    """An argument has the wrong value, type or range."""


class TargetError(SmcinferError):
    """A user's function (density, likelihood, transition, kernel) does not keep its contract."""


class CheckpointError(SmcinferError):
    """A checkpoint or a saved result is damaged, or belongs to another run."""
