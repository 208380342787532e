"""What particle Markov chains return: `smcinfer.run.chains.Chains` with what is particular to them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcinfer.core.status import Status
from smcinfer.ground.arrays import Array
from smcinfer.results.chains import Chains
from smcinfer.results.finished import Driven
from smcinfer.results.words import Lines, counted

NOISE_LIMIT = 1.7
"""Standard deviation of the log likelihood estimate above which PMMH sticks (Doucet et al. 2015 advise 1 to 1.7)."""


class ParticleChains(Chains):
    """Draws of parameters, and of paths where they were kept, of several chains."""

    WEIGHTED_FOR = "p(parameters, path | data) once a chain has forgotten its start, whatever the number of particles"

    @classmethod
    def of(
        cls,
        driven: Driven,
        constrain: Callable[[Array], dict[str, Array]] | None,
        paths: dict[str, np.ndarray],
        settings: dict[str, Any],
        dead: bool = False,
    ) -> "ParticleChains":
        """The record of a finished run.

        Args:
            driven: what the run left.
            constrain: one unconstrained vector -> named parameters; ``None`` where there are none.
            paths: states of the kept paths by name, each ``(chains, draws, T+1, ...)``.
            settings: how the chains were made, as JSON can hold it.
            dead: whether some chain never left where the likelihood estimate is zero.
        """
        draws = {} if constrain is None else named(constrain, driven.records["position"])
        shape = driven.records["acceptance"].shape
        return cls(
            draws=draws | {name if name not in draws else f"state.{name}": value for name, value in paths.items()},
            acceptance=driven.records["acceptance"],
            num_evals=np.full(shape, settings["thin"], np.int32),
            cap_reached=np.zeros(shape, np.int32),
            status=Status.ALL_WEIGHTS_ZERO if dead else Status.OK,
            settings=settings | {"precision": str(jnp.result_type(float)), "jax": jax.__version__},
            seconds=driven.seconds,
            compile_seconds=driven.compile_seconds,
        )

    def _title(self) -> str:
        size = f"{self.num_draws} draws x {counted(self.num_chains, 'chain')}"
        return f"smcinfer {self.settings['method']}: {self.settings['num_particles']} particles, {size}"

    def _lines(self) -> Lines:
        settings = self.settings
        lines = self._agreement()
        if settings["kernel"] != "none":
            lines.append(("acceptance", f"mean {self.acceptance.mean():.2f} ({settings['kernel']})"))
        if "path_changes" in settings:
            low, high = settings["path_changes"]
            lines.append(
                ("paths", f"x_t changes in {low:.0%} of the transitions at the worst t, {high:.0%} at the best")
            )
        if "log_likelihood_sd" in settings:
            noise = settings["log_likelihood_sd"]
            # Not "<=", which NaN would pass.
            advice = "" if noise < NOISE_LIMIT else f"; above {NOISE_LIMIT} chains stick: take more particles"
            lines.append(("noise", f"sd {noise:.2f} nats of log p_hat(y | theta) at a draw{advice}"))
        return [*lines, ("warm-up", f"{settings['num_warmup']} transitions a chain")]


def named(constrain: Callable[[Array], dict[str, Array]], positions: np.ndarray) -> dict[str, np.ndarray]:
    """Unconstrained vectors with two leading axes as named values."""

    @jax.jit
    def name(positions: Array) -> dict[str, Array]:
        return jax.vmap(jax.vmap(constrain))(positions)

    return {key: np.asarray(value) for key, value in name(jnp.asarray(positions)).items()}
