"""State-space models: data that a hidden Markov process left, filtered by the one driver."""

from smcinfer.state_space.joint import Joint, as_law
from smcinfer.state_space.model import StateSpace, state_space
from smcinfer.state_space.observations import Observations
from smcinfer.state_space.observed import Observed
from smcinfer.state_space.simulate import simulate

__all__ = ["Joint", "Observations", "Observed", "StateSpace", "as_law", "simulate", "state_space"]
