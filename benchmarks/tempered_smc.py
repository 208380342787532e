"""Tempered SMC on the breast-cancer logistic regression (d = 31), beside blackjax, particles and PyMC.

    python -m benchmarks.tempered_smc [--quick]

Every sampler gets the same target, particles and precision, and moves by HMC where it can. Blackjax gets several
settings of its own, with and without tuning on the particles, and is judged by its best. Each sampler is run many times;
with m_r its estimate of the posterior mean in run r and m the reference mean,

    neff = mean_j var_j / mean_j mean_r (m_rj - m_j)^2

is the number of independent draws that would be as accurate, bias included. Speed is neff a second of run time, compiling
apart. Log Z is compared with its reference, -62.787 +- .010. The particles and PyMC rows appear where those are
installed, and only without ``--quick``: they take minutes.
"""

import functools
import importlib.util
import time
from collections.abc import Callable
from typing import Any

import blackjax
import blackjax.smc.inner_kernel_tuning
import blackjax.smc.resampling
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.smc import extend_params
from blackjax.smc.tuning.from_particles import particles_covariance_matrix

from benchmarks.timing import parse_quick, print_json
from smcinfer import Moves, Tempering
from smcinfer.kernels import HMC
from smcinfer.models import logistic_regression
from smcinfer.run.runner import run

DIM = 31
Outcome = tuple[np.ndarray, np.ndarray, float, float]
"""Posterior means (runs, DIM), log Z (runs,), seconds a run, seconds compiling."""


def signed_rows() -> jax.Array:
    """Rows of the design, with the sign of their label."""
    design, labels = logistic_regression.breast_cancer_data()
    return jnp.asarray((2 * labels - 1)[:, None] * design, jnp.result_type(float))


def with_smcinfer(
    num_particles: int,
    num_runs: int,
    kernel: HMC | None = None,
    moves: Moves | None = None,
    chain_length: int | None = None,
) -> Outcome:
    """All runs (and the leader, whose time counts) side by side in one program."""
    model = Tempering(moves=moves, chain_length=chain_length).model(
        logistic_regression.breast_cancer(), kernel or HMC()
    )
    options: dict[str, Any] = {"num_runs": num_runs, "resample_below": 1.0, "history": "none", "lag": 3}
    first = run(jax.random.key(0), model, num_particles, **options)
    second = run(jax.random.key(1), model, num_particles, **options)
    means = jnp.mean(second.particles.position, axis=1)
    return np.asarray(means), np.asarray(second.log_z), second.seconds / num_runs, first.compile_seconds


def with_blackjax(num_particles: int, num_runs: int, num_steps: int, leaps: int, step: float, tuned: bool) -> Outcome:
    """Blackjax's adaptive tempered SMC with HMC, compiled whole, one run after another."""
    rows = signed_rows()

    def log_prior(x: jax.Array) -> jax.Array:
        return -0.5 * jnp.sum(x**2) / 25.0 - 0.5 * DIM * jnp.log(2 * jnp.pi * 25.0)

    def log_likelihood(x: jax.Array) -> jax.Array:
        return jnp.sum(jax.nn.log_sigmoid(rows @ x))

    def parameters(inverse_mass: jax.Array) -> dict[str, jax.Array]:
        return extend_params(
            {
                "step_size": jnp.asarray(step),
                "inverse_mass_matrix": inverse_mass,
                "num_integration_steps": jnp.asarray(leaps),
            }
        )

    common = {
        "logprior_fn": log_prior,
        "loglikelihood_fn": log_likelihood,
        "mcmc_step_fn": blackjax.hmc.build_kernel(),
        "mcmc_init_fn": blackjax.hmc.init,
        "resampling_fn": blackjax.smc.resampling.systematic,
        "target_ess": 0.5,
        "num_mcmc_steps": num_steps,
    }
    if tuned:
        sampler = blackjax.inner_kernel_tuning(
            smc_algorithm=blackjax.adaptive_tempered_smc,
            mcmc_parameter_update_fn=lambda _, state, __: parameters(
                jnp.atleast_2d(particles_covariance_matrix(state.particles)) + 1e-6 * jnp.eye(DIM)
            ),
            initial_parameter_value=parameters(25.0 * jnp.eye(DIM)),
            **common,
        )
    else:
        sampler = blackjax.adaptive_tempered_smc(mcmc_parameters=parameters(jnp.ones(DIM)), **common)

    def exponent(state: Any) -> jax.Array:
        return (state.sampler_state if tuned else state).tempering_param

    @jax.jit
    def whole(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        start_key, key = jax.random.split(key)
        state = sampler.init(5.0 * jax.random.normal(start_key, (num_particles, DIM)))

        def once(carry: tuple[Any, ...]) -> tuple[Any, ...]:
            key, state, log_z, count = carry
            key, step_key = jax.random.split(key)
            state, info = sampler.step(step_key, state)
            return key, state, log_z + info.log_likelihood_increment, count + 1

        carry = (key, state, jnp.zeros(()), 0)
        _, state, log_z, _ = jax.lax.while_loop(lambda c: (exponent(c[1]) < 1) & (c[3] < 200), once, carry)
        final = state.sampler_state if tuned else state
        return final.weights @ final.particles, log_z

    keys = jax.random.split(jax.random.key(2), num_runs)
    started = time.perf_counter()
    compiled = whole.lower(keys[0]).compile()
    compile_seconds = time.perf_counter() - started
    started = time.perf_counter()
    outcomes = [jax.block_until_ready(compiled(key)) for key in keys]
    seconds = (time.perf_counter() - started) / num_runs
    return np.stack([o[0] for o in outcomes]), np.asarray([o[1] for o in outcomes]), seconds, compile_seconds


def with_particles(num_particles: int, num_runs: int) -> Outcome:
    """The library particles: adaptive tempering with its random-walk moves (it has no gradients)."""
    import particles
    from particles import distributions, smc_samplers

    rows = np.asarray(signed_rows())
    prior = distributions.StructDist({"beta": distributions.IndepProd(*[distributions.Normal(scale=5.0)] * DIM)})

    class Logistic(smc_samplers.StaticModel):
        def loglik(self, theta: Any, t: int | None = None) -> np.ndarray:
            return -np.logaddexp(0.0, -(theta["beta"] @ rows.T)).sum(axis=1)

    means, log_z = [], []
    started = time.perf_counter()
    for seed in range(num_runs):
        np.random.seed(seed)
        model = smc_samplers.AdaptiveTempering(Logistic(data=rows, prior=prior), len_chain=100, wastefree=True)
        sampler = particles.SMC(fk=model, N=num_particles // 25, ESSrmin=1.0, verbose=False)
        sampler.run()
        means.append(sampler.W @ sampler.X.theta["beta"])
        log_z.append(sampler.logLt)
    return np.stack(means), np.asarray(log_z), (time.perf_counter() - started) / num_runs, 0.0


def with_pymc(num_particles: int, num_runs: int) -> Outcome:
    """PyMC's sample_smc with its independent Metropolis-Hastings moves."""
    import pymc

    design, labels = logistic_regression.breast_cancer_data()
    means, log_z = [], []
    with pymc.Model():
        beta = pymc.Normal("beta", 0.0, 5.0, shape=DIM)
        pymc.Bernoulli("label", logit_p=design @ beta, observed=labels)
        started = time.perf_counter()
        for seed in range(num_runs):
            trace = pymc.sample_smc(num_particles, chains=1, cores=1, random_seed=seed, progressbar=False)
            means.append(trace.posterior["beta"].values[0].mean(axis=0))
            stats = np.asarray(trace.sample_stats["log_marginal_likelihood"].values.ravel()[-1], dtype=object)
            log_z.append(float(np.ravel(stats.tolist())[-1]))
    return np.stack(means), np.asarray(log_z), (time.perf_counter() - started) / num_runs, 0.0


def reference(quick: bool) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and variance by blackjax's NUTS chains from the mode, a sampler that no row uses."""
    rows = signed_rows()

    def log_density(x: jax.Array) -> jax.Array:
        return -0.5 * jnp.sum(x**2) / 25.0 + jnp.sum(jax.nn.log_sigmoid(rows @ x))

    mode = jnp.zeros(DIM)
    for _ in range(50):
        mode = mode - jnp.linalg.solve(
            jax.hessian(log_density)(mode) - 1e-6 * jnp.eye(DIM), jax.grad(log_density)(mode)
        )
    covariance = jnp.linalg.inv(-jax.hessian(log_density)(mode))
    sampler = blackjax.nuts(log_density, step_size=0.5, inverse_mass_matrix=covariance)
    chains, draws = (32, 500) if quick else (64, 2000)
    factor = jnp.linalg.cholesky(covariance)

    @jax.jit
    @jax.vmap
    def chain(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        start_key, key = jax.random.split(key)
        state = sampler.init(mode + factor @ jax.random.normal(start_key, (DIM,)))
        _, positions = jax.lax.scan(
            lambda state, key: (lambda new: (new, new.position))(sampler.step(key, state)[0]),
            state,
            jax.random.split(key, draws + 50),
        )
        kept = positions[50:]
        return kept.mean(axis=0), (kept**2).mean(axis=0)

    first, second = chain(jax.random.split(jax.random.key(9), chains))
    mean = first.mean(axis=0)
    return np.asarray(mean, np.float64), np.asarray(second.mean(axis=0) - mean**2, np.float64)


def main() -> None:
    """Run every sampler and print a table, then one line of JSON."""
    quick = parse_quick(__doc__ or "")
    num_particles, num_runs = (512, 12) if quick else (1024, 32)
    samplers: dict[str, Callable[[], Outcome]] = {
        "smcinfer": lambda: with_smcinfer(num_particles, num_runs),
        "smcinfer_waste_free": lambda: with_smcinfer(
            num_particles, num_runs, HMC(target_acceptance=0.8), chain_length=8
        ),
        "blackjax_tuned": lambda: with_blackjax(num_particles, num_runs, 3, 4, 0.4, tuned=True),
        "blackjax_untuned": lambda: with_blackjax(num_particles, num_runs, 5, 8, 0.1, tuned=False),
    }
    if not quick:
        samplers["smcinfer_long_moves"] = lambda: with_smcinfer(num_particles, num_runs, moves=Moves(100, 1, 0.05))
        samplers["blackjax_tuned_long"] = lambda: with_blackjax(num_particles, num_runs, 10, 4, 0.4, tuned=True)
        samplers["blackjax_untuned_long"] = lambda: with_blackjax(num_particles, num_runs, 10, 20, 0.1, tuned=False)
        peers = {"particles": (with_particles, 8), "pymc": (with_pymc, 4)}
        for name, (peer, runs) in peers.items():
            if importlib.util.find_spec(name) is not None:
                samplers[name] = functools.partial(peer, num_particles, runs)
    mean, variance = reference(quick)
    table: dict[str, dict[str, float]] = {}
    print(
        f"{'sampler':<22}{'neff':>9}{'s/run':>9}{'neff/s':>9}{'log Z bias':>12}{'s.e.':>7}{'spread':>8}{'compile s':>11}"
    )
    for name, sampler in samplers.items():
        means, log_z, seconds, compile_seconds = sampler()
        log_z = np.asarray(log_z, np.float64)
        neff = variance.mean() / np.mean((np.asarray(means, np.float64) - mean) ** 2)
        spread = log_z.std(ddof=1)
        row = {
            "neff": neff,
            "seconds_a_run": seconds,
            "neff_per_second": neff / seconds,
            "log_z_bias": log_z.mean() - logistic_regression.REFERENCE_LOG_Z,
            "log_z_bias_se": spread / np.sqrt(len(log_z)),
            "log_z_spread": spread,
            "compile_seconds": compile_seconds,
        }
        table[name] = row
        print(
            f"{name:<22}{neff:9.1f}{seconds:9.3f}{neff / seconds:9.1f}{row['log_z_bias']:12.3f}"
            f"{row['log_z_bias_se']:7.3f}{spread:8.3f}{compile_seconds:11.1f}",
            flush=True,
        )
    ours = max(row["neff_per_second"] for name, row in table.items() if name.startswith("smcinfer"))
    figures: dict[str, Any] = {}
    for peer in ("blackjax", "particles", "pymc"):
        rows = [row["neff_per_second"] for name, row in table.items() if name.startswith(peer)]
        if rows:
            figures[f"neff_per_second_ratio_{peer}"] = ours / max(rows)
    print_json(figures | {"num_particles": num_particles, "num_runs": num_runs, "table": table})


if __name__ == "__main__":
    main()
