r"""Potentials of sequences that compose: products, powers, negation, thresholds.

.. math:: (\phi_a \phi_b)(s), \qquad \phi^\beta(s), \qquad 1 - \phi(s), \qquad [\log \phi(s) \ge c]

written ``a * b``, ``a ** beta``, ``~a`` and ``a.at_least(c)``. Every factor knows whether it is *terminal*, paid once when the
sequence ends, and the largest value that it can take over a whole sequence, where that is known: rejection sampling needs
it, and negation needs it to be one.
"""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp

from smcinfer.ground.arrays import Flag, Scalar, Time
from smcinfer.ground.errors import ArgumentError
from smcinfer.language.process import TokenState


class Factor(eqx.Module):
    """A potential of sequences: ``(t, state) -> Float[""]``, log phi_t in nats; what `generation` takes."""

    @property
    @abc.abstractmethod
    def log_bound(self) -> float | None:
        """The largest log of the product over a whole sequence, nats; ``None`` where no bound is known."""

    @property
    @abc.abstractmethod
    def terminal(self) -> bool:
        """Whether it is paid once, at the step where the sequence ends, and is one before."""

    @abc.abstractmethod
    def __call__(self, t: Time, state: TokenState) -> Scalar:
        """log phi_t of the sequence after step t."""

    def __mul__(self, other: Any) -> "Factor":
        """Both are asked for."""
        return Product((self, as_factor(other)))

    def __pow__(self, exponent: float | int) -> "Factor":
        """Asked for more (above one) or less (below one) strongly; minus one asks for the opposite odds."""
        return Power(self, float(exponent))

    def __invert__(self) -> "Factor":
        """One minus phi: an event's probability becomes that of its opposite."""
        return Complement(self)

    def at_least(self, log_value: float, log_miss: float = float("-inf")) -> "Factor":
        """One where log phi reaches a value, nats, and ``log_miss`` where it does not."""
        return Threshold(self, float(log_value), float(log_miss))


class Plain(Factor):
    """Any function ``(t, state) -> Float[""]``: nothing is known of it."""

    function: Callable[[Time, TokenState], Scalar]

    @property
    def log_bound(self) -> float | None:
        """``None``: nothing is known of a function."""
        return None

    @property
    def terminal(self) -> bool:
        """False: nothing is known of a function."""
        return False

    def __call__(self, t: Time, state: TokenState) -> Scalar:
        """What the function says of the sequence at step t, nats."""
        return self.function(t, state)


class AtEnd(Factor):
    """A function of the whole sequence, paid once.

    Attributes:
        function: ``(state, wanted) -> Float[""]``, nats; only where ``wanted`` does its value count.
        largest: what it never exceeds, nats, or ``None``.
    """

    function: Callable[[TokenState, Flag], Scalar]
    largest: float | None = eqx.field(static=True, default=None)

    @property
    def log_bound(self) -> float | None:
        """The largest value that was stated, nats, or ``None``."""
        return self.largest

    @property
    def terminal(self) -> bool:
        """True: it is paid once."""
        return True

    def __call__(self, t: Time, state: TokenState) -> Scalar:
        """The value at the step where the sequence ends, zero elsewhere."""
        wanted = state.just_ended(t)
        return jnp.where(wanted, self.function(state, wanted), 0.0)


class _OfState(eqx.Module):
    """A function of the state alone, whether its value counts or not."""

    function: Callable[[TokenState], Scalar]

    def __call__(self, state: TokenState, wanted: Flag) -> Scalar:
        del wanted
        return self.function(state)


def terminal(function: Callable[[TokenState], Scalar], *, largest: float | None = None) -> AtEnd:
    """A potential of whole sequences: paid once, at the step where the sequence ends.

    Args:
        function: ``state -> Float[""]``, log phi in nats, a JAX function of a `TokenState`.
        largest: what it never exceeds, nats, or ``None``.
    """
    return AtEnd(_OfState(function), largest)


class EveryStep(Factor):
    """A function of the sequence so far, paid after every token.

    Attributes:
        function: ``(state, wanted, ended) -> Float[""]``, nats; ``ended`` says whether the sequence ends here.
        largest: what the sum over a whole sequence never exceeds, nats, or ``None``.
    """

    function: Callable[[TokenState, Flag, Flag], Scalar]
    largest: float | None = eqx.field(static=True, default=None)

    @property
    def log_bound(self) -> float | None:
        """The largest value that was stated, nats, or ``None``."""
        return self.largest

    @property
    def terminal(self) -> bool:
        """False: it is paid at every step."""
        return False

    def __call__(self, t: Time, state: TokenState) -> Scalar:
        """The value after the token that step t added."""
        wanted = state.just_read(t) & (t > 0)
        return jnp.where(wanted, self.function(state, wanted, state.just_ended(t)), 0.0)


class Product(Factor):
    """Several factors, all asked for."""

    factors: tuple[Factor, ...]

    @property
    def log_bound(self) -> float | None:
        """The sum of the factors' bounds, ``None`` where one has none."""
        return _sum([factor.log_bound for factor in self.factors])

    @property
    def terminal(self) -> bool:
        """Whether all factors are."""
        return all(factor.terminal for factor in self.factors)

    def __call__(self, t: Time, state: TokenState) -> Scalar:
        """The sum of their logs."""
        total = jnp.zeros(())
        for factor in self.factors:
            total = total + factor(t, state)
        return total


class Power(Factor):
    """A factor to a power: a reward over a temperature, where the factor is the reward's exponential."""

    factor: Factor
    exponent: float = eqx.field(static=True)

    def __check_init__(self) -> None:
        if self.exponent == 0:
            raise ArgumentError("a power of zero asks for nothing", expected="another exponent", got=self.exponent)

    @property
    def log_bound(self) -> float | None:
        """The factor's, times a positive exponent."""
        bound = self.factor.log_bound
        return None if bound is None or self.exponent < 0 else self.exponent * bound

    @property
    def terminal(self) -> bool:
        """Whether the factor is."""
        return self.factor.terminal

    def __call__(self, t: Time, state: TokenState) -> Scalar:
        """The exponent times its log."""
        return self.exponent * self.factor(t, state)


class Complement(Factor):
    """One minus a terminal factor that is at most one."""

    factor: Factor

    def __check_init__(self) -> None:
        bound = self.factor.log_bound
        if not self.factor.terminal or bound is None or bound > 0:
            raise ArgumentError(
                "only an event can be negated",
                expected="a terminal potential whose log is known to be at most 0",
                got={"terminal": self.factor.terminal, "log_bound": bound},
                hint="give largest=0 where a log probability is meant; avoids(...) is the negation of contains(...)",
            )

    @property
    def log_bound(self) -> float | None:
        """Zero: one minus a probability is at most one."""
        return 0.0

    @property
    def terminal(self) -> bool:
        """True: it is paid once."""
        return True

    def __call__(self, t: Time, state: TokenState) -> Scalar:
        """log(1 - phi) where the sequence ends."""
        ended = state.just_ended(t)
        value = jnp.where(ended, self.factor(t, state), -1.0)
        # log(1 - e^v) loses all digits near v = 0 in the one form and near minus infinity in the other.
        near, far = jnp.minimum(value, 0.0), jnp.minimum(value, -jnp.log(2.0))
        inverse = jnp.where(value > -jnp.log(2.0), jnp.log(-jnp.expm1(near)), jnp.log1p(-jnp.exp(far)))
        return jnp.where(ended, inverse, 0.0)


class Threshold(Factor):
    """Whether a terminal factor reaches a value."""

    factor: Factor
    log_value: float = eqx.field(static=True)
    log_miss: float = eqx.field(static=True)

    def __check_init__(self) -> None:
        if not self.factor.terminal:
            raise ArgumentError(
                "only a terminal potential has one value", expected="terminal", got="paid at every step"
            )

    @property
    def log_bound(self) -> float | None:
        """Zero, or what a miss is worth."""
        return max(0.0, self.log_miss)

    @property
    def terminal(self) -> bool:
        """True: it is paid once."""
        return True

    def __call__(self, t: Time, state: TokenState) -> Scalar:
        """Zero or ``log_miss`` where the sequence ends."""
        return jnp.where(state.just_ended(t) & ~(self.factor(t, state) >= self.log_value), self.log_miss, 0.0)


def as_factor(potential: Any) -> Factor:
    """A factor as it is, any other function wrapped as one."""
    if not callable(potential):
        raise ArgumentError(
            "a potential is a function", expected="(t, state) -> Float['']", got=type(potential).__name__
        )
    return potential if isinstance(potential, Factor) else Plain(potential)


def _sum(bounds: list[float | None]) -> float | None:
    known = [bound for bound in bounds if bound is not None]
    return sum(known) if len(known) == len(bounds) else None
