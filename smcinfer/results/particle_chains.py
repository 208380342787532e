"""What particle Markov chains return: `smcinfer.run.chains.Chains` with what is particular to them."""

from smcinfer.results.chains import Chains
from smcinfer.results.words import Lines, counted

NOISE_LIMIT = 1.7
"""Standard deviation of the log likelihood estimate above which PMMH sticks (Doucet et al. 2015 advise 1 to 1.7)."""


class ParticleChains(Chains):
    """Draws of parameters, and of paths where they were kept, of several chains."""

    WEIGHTED_FOR = "p(parameters, path | data) once a chain has forgotten its start, whatever the number of particles"

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
