"""The table of wrong calls: every door with one bad argument at a time. None of them may get as far as a run.

``python -m tests.wrong_calls`` makes every call and prints what each raised, as JSON. It runs by itself, away from the hook
that checks annotations while tests run, so that what speaks is what a user hears.
"""

import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import smcinfer
from smcinfer import bounds, checks, diffusion, language, plots, twists
from smcinfer.kernels import HMC
from smcinfer.language.decoding.cascade import cascade
from smcinfer.language.proposals.companion import second_model
from smcinfer.language.proposals.filters import Nucleus, TopK

NAN = math.nan
KEY = jax.random.key(0)
NORMAL = dist.Normal(0.0, 1.0)


class Bad(NamedTuple):
    """A value that is wrong, and what must be said of it where it is not the argument's own name."""

    value: Any
    says: str = ""


COUNTS: tuple[Any, ...] = ("100", 1e3, 2.5, True, 0, -1)
FEW: tuple[Any, ...] = ("2", 2.0, 0)
FLAGS: tuple[Any, ...] = ("yes", 1)
SECONDS: tuple[Any, ...] = ("30", -1, NAN)
KEYS: tuple[Any, ...] = (0, None, jax.ShapeDtypeStruct((2,), jnp.float32), jnp.zeros(2))
FRACTIONS: tuple[Any, ...] = (1.5, "half", NAN)
RESAMPLING: tuple[Any, ...] = ("sistematic", 3, None)


def _walk(**parts: Any) -> Any:
    usual: dict[str, Any] = {
        "initial": NORMAL,
        "transition": lambda t, x: dist.Normal(x, 1.0),
        "observation": lambda t, x: dist.Normal(x, 0.5),
        "data": np.zeros(4),
    }
    return smcinfer.state_space(**(usual | parts))


def _parametric() -> Any:
    return smcinfer.parametric(NORMAL, lambda a: _walk(transition=lambda t, x: dist.Normal(a * x, 1.0)))


def _numpyro(y: Any) -> None:
    import numpyro

    mu = numpyro.sample("mu", NORMAL)
    numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def _denoiser() -> Any:
    function = lambda y, ratio: y / (1.0 + ratio**2)  # noqa: E731
    return diffusion.diffusion_model(function, diffusion.VariancePreserving(), (1,), parameterisation="denoiser")


class Door(NamedTuple):
    """A function that users call, a call of it that is right, and bad values by argument."""

    function: Callable[..., Any]
    right: Callable[[], dict[str, Any]]
    wrong: dict[str, tuple[Any, ...]]


def _run(**more: tuple[Any, ...]) -> dict[str, tuple[Any, ...]]:
    """Bad values of what every door that runs has."""
    return {"key": KEYS, "progress": ("no", 0), "checkpoint_seconds": SECONDS, **more}


def _doors() -> dict[str, Door]:
    from tests.synthetic import make_result

    target = smcinfer.posterior(NORMAL, lambda theta: -(theta**2))
    model, parametric, result = _walk(), _parametric(), make_result()
    base = smcinfer.process(NORMAL, lambda t, x: dist.Normal(x, 1.0))
    potential = lambda t, x: -(x**2)  # noqa: E731
    table = language.table_lm(KEY, 5, 2, 1.0)
    reward = diffusion.measurement(lambda x: x, [1.0], 0.5)
    return {
        "sample": Door(
            smcinfer.sample,
            lambda: {"key": KEY, "target": target},
            _run(
                target=(3.0, lambda x: -(x**2), result, smcinfer.StaticTarget),
                num_particles=COUNTS,
                num_runs=FEW,
                method=("temper", 3, smcinfer.Tempering),
                kernel=("hcm", 3, HMC),
                resampling=RESAMPLING,
                resample_below=FRACTIONS,
                islands=(*FEW, 7),
                devices=([], "cpu", 3),
                history=("all", 1, None),
            ),
        ),
        "sample a filter": Door(
            smcinfer.sample,
            lambda: {"key": KEY, "target": model},
            {"method": ("tempering",), "kernel": ("hmc",), "num_particles": ("10",), "islands": (3,)},
        ),
        "Tempering": Door(
            smcinfer.Tempering,
            dict,
            {
                "schedule": ("ees", smcinfer.ESS, [0.5, 0.2], [0.1, 0.5]),
                "led": FLAGS,
                "max_steps": FEW,
                "chain_length": (1, 2.0),
            },
        ),
        "Nested": Door(
            smcinfer.Nested,
            dict,
            {"survival": (0.0, 1.0, "half", [1.0, 0.0]), "tolerance": FRACTIONS, "led": FLAGS, "max_steps": FEW},
        ),
        "DataAnnealing": Door(smcinfer.DataAnnealing, dict, {"batch_size": FEW, "led": FLAGS}),
        "Moves": Door(smcinfer.Moves, dict, {"max_steps": FEW, "min_steps": (0, 500), "autocorrelation": FRACTIONS}),
        "posterior": Door(
            smcinfer.posterior,
            lambda: {"prior": NORMAL, "log_likelihood": lambda theta, y: -((theta - y) ** 2), "data": np.zeros(3)},
            {
                "prior": (3.0, {}, dist.Poisson(1.0), dist.Delta(0.0), {"prior": 3.0}),
                "log_likelihood": (3.0, lambda theta, y: jnp.zeros(2), lambda theta, y: theta > 0),
                "data": ("abc", ["a"], [NAN], [], np.zeros(0), 3.0, {"a": np.zeros(3), "b": np.zeros(2)}, [None, 1.0]),
            },
        ),
        "log_density": Door(
            smcinfer.log_density,
            lambda: {"fn": lambda theta: -(theta**2), "reference": NORMAL},
            {
                "fn": (3.0, lambda theta: jnp.zeros(2)),
                "reference": (Bad(3.0, "distribution"), Bad(dist.Poisson(1.0), "discrete")),
            },
        ),
        "from_numpyro": Door(
            lambda model, y, reference=None: smcinfer.from_numpyro(model, y, reference=reference),
            lambda: {"model": _numpyro, "y": 0.3},
            {
                "model": (3.0, lambda y: None, lambda y: 1 / 0),
                "y": (NAN, Bad(np.ma.array([1.0, 2.0], mask=[0, 1]), "argument 1"), Bad([None, 1.0], "argument 1")),
                "reference": ("lapalce", 3, {"nu": NORMAL}),
            },
        ),
        "state_space": Door(
            _walk,
            dict,
            {
                "initial": (0.0, {}),
                "transition": (3.0, lambda t, x: x, lambda t, x: dist.Normal(jnp.zeros(2), 1.0)),
                "observation": (3.0, lambda t, x: x, lambda t, x: {"y": NORMAL}),
                "data": ("abc", [NAN, 1.0], [], np.zeros((4, 2)), 3.0, {"a": np.zeros(4), "b": np.zeros(3)}),
                "missing": ("drop", None, True),
                "times": ([0.0, 1.0], ["a"] * 4, [0.0, 1.0, 1.0, 2.0], [NAN, 1.0, 2.0, 3.0]),
                "inputs": (np.zeros(3), {"u": ["a"] * 4}),
                "proposal": (3.0, lambda t, x, y: x, lambda t, x, y: dist.HalfNormal(1.0)),
                "initial_proposal": (3.0, dist.HalfNormal(1.0)),
                "look_ahead": (3.0, lambda t, x, y: jnp.ones(2)),
                "twist": (3.0, lambda t, x: jnp.ones(2)),
                "quantiles": ((), (1.5,), ("half",), 0.5),
            },
        ),
        "smooth": Door(
            smcinfer.smooth,
            lambda: {"key": KEY, "model": model},
            {
                "key": KEYS,
                "model": (3.0, target),
                "method": ("sideways", 3),
                "num_particles": COUNTS,
                "num_runs": FEW,
                "num_draws": FEW,
                "lag": (3,),
                "resampling": RESAMPLING,
                "resample_below": FRACTIONS,
                "progress": FLAGS,
            },
        ),
        "online": Door(
            smcinfer.online,
            lambda: {"key": KEY, "model": _walk(data=None)},
            {
                "key": KEYS,
                "model": (3.0, target, smcinfer.StateSpace),
                "num_particles": COUNTS,
                "num_runs": FEW,
                "lag": ("3", 2.0, -1),
                "resampling": RESAMPLING,
                "resample_below": FRACTIONS,
                "cloud": (3.0, "x", smcinfer.Cloud(np.zeros((1, 2)), np.zeros((1, 3)))),
                "t": (-1, 2, "x"),
                "time": (0.5, "x"),
                "method": ("x", smcinfer.Tempering()),
                "kernel": ("hmc",),
            },
        ),
        "gaussian_filter": Door(
            smcinfer.gaussian_filter,
            lambda: {"model": model},
            {"model": (3.0, target), "method": ("square", 3), "in_parallel": (*FLAGS, "DEER")},
        ),
        "ensemble_filter": Door(
            smcinfer.ensemble_filter,
            lambda: {"key": KEY, "model": model},
            {"key": KEYS, "model": (3.0, target), "num_members": (1, *FEW), "transform": FLAGS},
        ),
        "panel": Door(
            smcinfer.panel,
            lambda: {
                "initial": NORMAL,
                "transition": lambda t, x, *now: dist.Normal(x, 1.0),
                "observation": lambda t, x, *now: dist.Normal(x, 0.5),
                "series": [np.zeros(3), np.zeros(2)],
            },
            {
                "series": (3.0, [], np.zeros((2, 3)), [["a"]], [np.zeros(0)]),
                "times": ([[0.0, 1.0, 2.0]], [[0.0, 0.0, 1.0], [0.0, 1.0]]),
                "inputs": ([np.zeros(3)],),
            },
        ),
        "maximum_likelihood": Door(
            smcinfer.maximum_likelihood,
            lambda: {"key": KEY, "target": parametric},
            {
                "key": KEYS,
                "target": (3.0, model),
                "num_particles": COUNTS,
                "num_steps": (3, *FEW),
                "learning_rate": (-1.0, "small", NAN),
                "method": ("em", 3),
                "resampling": RESAMPLING,
            },
        ),
        "smooth by a lag": Door(
            smcinfer.smooth,
            lambda: {"key": KEY, "model": model, "method": "fixed_lag"},
            {"lag": (*FEW, 1000), "num_draws": (10,)},
        ),
        "mcmc": Door(
            smcinfer.mcmc,
            lambda: {"key": KEY, "target": target},
            _run(
                target=(3.0, result),
                kernel=("hcm", 3, HMC),
                num_chains=COUNTS,
                num_draws=FEW,
                num_warmup=("2", 2.0, -1),
                thin=FEW,
                initial=({"initial": 1.0}, "zero", jnp.zeros(5)),
                pace=("slow", 3),
            ),
        ),
        "parallel_tempering": Door(
            smcinfer.parallel_tempering,
            lambda: {"key": KEY, "target": target},
            _run(
                target=(3.0, result, jnp.sum),
                kernel=("hcm", 3, HMC),
                num_rungs=("2", 2.0, 1),
                num_chains=FEW,
                num_draws=FEW,
                num_warmup=("2", 2.0, -1),
                thin=FEW,
            ),
        ),
        "pmmh": Door(
            smcinfer.pmmh,
            lambda: {"key": KEY, "target": parametric},
            _run(
                target=(3.0, model),
                num_particles=COUNTS,
                num_chains=FEW,
                num_draws=FEW,
                num_warmup=(2.0, -1),
                thin=FEW,
                kernel=("nuts", 3),
                resampling=RESAMPLING,
            ),
        ),
        "particle_gibbs": Door(
            smcinfer.particle_gibbs,
            lambda: {"key": KEY, "target": parametric},
            _run(
                target=(3.0, target),
                num_particles=(*COUNTS, 1),
                num_chains=FEW,
                num_draws=FEW,
                num_warmup=(2.0, -1),
                thin=FEW,
                kernel=("hcm", 3),
                num_moves=FEW,
                ancestor_sampling=FLAGS,
                resampling=RESAMPLING,
            ),
        ),
        "smc2": Door(
            smcinfer.smc2,
            lambda: {"key": KEY, "target": parametric},
            _run(
                target=(3.0, model),
                num_particles=COUNTS,
                num_inner=FEW,
                num_runs=FEW,
                num_moves=FEW,
                kernel=("nuts", HMC()),
                led=FLAGS,
                resampling=RESAMPLING,
                resample_below=FRACTIONS,
                history=("all",),
            ),
        ),
        "parametric": Door(
            smcinfer.parametric,
            lambda: {"prior": NORMAL, "build": lambda a: model},
            {"prior": (3.0, dist.Poisson(1.0)), "build": (3.0, lambda a: 3.0, lambda a: target)},
        ),
        "compose": Door(
            smcinfer.compose,
            lambda: {"process": base, "potential": potential, "num_steps": 4},
            {
                "process": (3.0, NORMAL),
                "potential": (3.0, lambda t, x: jnp.ones(2)),
                "twist": (3.0, lambda t, x: jnp.ones(2)),
                "proposal": (3.0, lambda t, x: NORMAL),
                "num_steps": ("4", 4.0, -1),
                "look_ahead": (3.0, lambda t, x: jnp.ones(2)),
            },
        ),
        "condition": Door(
            smcinfer.condition,
            lambda: {"model": model, "path": jnp.zeros(4)},
            {"model": (3.0, target), "path": (jnp.zeros(3), 3.0), "ancestor_sampling": FLAGS},
        ),
        "sandwich": Door(
            bounds.sandwich,
            lambda: {"key": KEY, "target": target, "exact_draw": lambda key: jnp.zeros(1)},
            {
                "key": KEYS,
                "target": (3.0,),
                "exact_draw": (jnp.zeros(3), 3.0, result),
                "num_particles": COUNTS,
                "num_runs": FEW,
                "method": (
                    "temperature",
                    3,
                    smcinfer.Tempering,
                    smcinfer.Tempering(led=False),
                    smcinfer.DataAnnealing(),
                ),
                "kernel": ("hcm", 3),
                "resampling": RESAMPLING,
                "resample_below": (0.5,),
                "one_draw": FLAGS,
                "progress": FLAGS,
            },
        ),
        "sandwich of a filter": Door(
            bounds.sandwich,
            lambda: {"key": KEY, "target": model, "exact_draw": lambda key: jnp.zeros(4)},
            {"kernel": ("mala",), "method": ("tempering",), "resample_below": FRACTIONS},
        ),
        "generation": Door(
            language.generation,
            lambda: {"lm": table, "prompt": (3, 1), "max_tokens": 4},
            {
                "lm": (3.0, "gpt2", target),
                "prompt": ("text", 3.0, (9,), ()),
                "potential": (3.0, lambda t, state: jnp.ones(2)),
                "max_tokens": ("4", 4.0, 0),
                "temperature": ("hot", 0.0, NAN),
                "proposal": (3.0,),
                "end": ("close", 3),
                "eos_id": (9, 1.5),
            },
        ),
        "alignment": Door(
            diffusion.alignment,
            lambda: {"model": _denoiser(), "reward": reward},
            {
                "model": (3.0, lambda x: x),
                "reward": (3.0,),
                "temperature": ("hot", 0.0),
                "num_steps": ("4", 4.0, 0),
                "kernel": ("ddqm", 3),
                "look": ("twedie", 3),
                "potential": ("product", 3),
                "every": FEW,
                "proposal": ("best", 3),
            },
        ),
        "alignment whose strength is found": Door(
            diffusion.alignment,
            lambda: {"model": _denoiser(), "reward": reward, "strength": "ess"},
            {"tempering_ess": (1.5, "half", NAN), "led": FLAGS, "proposal": ("selection",), "potential": ("max",)},
        ),
        "learn": Door(
            twists.learn,
            lambda: {"key": KEY, "target": model},
            {
                "key": KEYS,
                "target": (3.0, target),
                "objective": ("clt", 3),
                "num_particles": COUNTS,
                "num_steps": FEW,
                "learning_rate": (-1.0, "small", NAN),
                "resample_below": FRACTIONS,
                "patience": (0, 1.5),
            },
        ),
        "check": Door(checks.check, lambda: {"part": target, "key": KEY}, {"part": (3.0, "target"), "key": (0, None)}),
        "check_model": Door(
            checks.check_model, lambda: {"model": model, "key": KEY}, {"num_particles": FEW, "model": (3.0,)}
        ),
        "check_kernel": Door(
            checks.check_kernel, lambda: {"kernel": HMC(), "key": KEY}, {"kernel": (3.0, "hmc"), "dim": FEW}
        ),
        "check_target": Door(
            checks.check_target, lambda: {"target": target, "key": KEY}, {"num_draws": FEW, "target": (3.0,)}
        ),
        "HMC": Door(
            HMC,
            dict,
            {
                "target_acceptance": (0.0, 1.0, "0.9", NAN),
                "trajectory": (0.0, "long", math.inf),
                "jitter": FRACTIONS,
                "max_leapfrog": COUNTS,
            },
        ),
        "cascade": Door(
            cascade,
            lambda: {"key": KEY, "lm": table, "prompt": [1], "reward": lambda tokens, length: 0.0, "max_tokens": 3},
            {
                "num_texts": COUNTS,
                "temperature": (0.0, -1.0, "hot", NAN),
                "entropy": (-1.0, "low"),
                "max_segment": COUNTS,
                "max_tries": COUNTS,
                "reward": (3.0, lambda tokens, length: tokens),
            },
        ),
        "second_model": Door(second_model, dict, {"temperature": (0.0, "hot", NAN)}),
        "TopK": Door(TopK, dict, {"k": tuple(Bad(value, "top_k") for value in COUNTS)}),
        "Nucleus": Door(Nucleus, dict, {"mass": tuple(Bad(value, "nucleus") for value in (0.0, 2.0, "most", NAN))}),
        "plot_log_z": Door(
            plots.plot_log_z, lambda: {"result": result}, {"result": (3.0, target), "level": (1.5, "most")}
        ),
        "plot_genealogy": Door(
            plots.plot_genealogy, lambda: {"result": result}, {"result": (3.0,), "run": (9, -9, 1.0)}
        ),
        "plot_posterior": Door(
            plots.plot_posterior, lambda: {"result": result}, {"result": (3.0,), "kind": ("pie",), "max_scalars": FEW}
        ),
        "load": Door(
            smcinfer.load, dict, {"path": (3.0, None, Bad("no/such/file.nc", "no such file"), Bad(__file__, __file__))}
        ),
    }


def rows() -> Iterator[tuple[str, str, str, Callable[[], Any], str]]:
    """Door, argument, the bad value in words, the call, and what its error must say."""
    for door, (function, right, wrong) in _doors().items():
        for argument, values in wrong.items():
            for value in values:
                bad = value if isinstance(value, Bad) else Bad(value, argument)
                call = lambda f=function, r=right, a=argument, v=bad.value: f(**(r() | {a: v}))  # noqa: E731
                yield door, argument, _words(bad.value), call, bad.says


def _words(value: Any) -> str:
    if callable(value) and not isinstance(value, type):
        return "function"
    return " ".join(repr(value).split())[:40]


def outcomes() -> list[dict[str, str]]:
    """What every call raised: the names of the error's classes, the nearest first, and its message."""
    found = []
    for door, argument, value, call, says in rows():
        row = {"door": door, "argument": argument, "value": value, "says": says, "error": "nothing", "message": ""}
        try:
            call()
        except Exception as raised:  # noqa: BLE001 - what is raised is what is looked at
            row |= {"error": " ".join(kind.__name__ for kind in type(raised).__mro__), "message": str(raised)}
        found.append(row)
    return found


def faults(found: list[dict[str, str]]) -> list[str]:
    """One sentence for each call that raised nothing, an error that is not the package's, or one that names nothing."""
    sentences = []
    for row in found:
        call = f"{row['door']}({row['argument']}={row['value']})"
        if "SmcinferError" not in row["error"].split():
            sentences.append(f"{call} raised {row['error'].split()[0]}: {row['message'][:200]}")
        elif row["says"] not in row["message"]:
            sentences.append(f"{call} says nothing of {row['says']!r}: {row['message'][:200]}")
    return sentences


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(outcomes()), encoding="utf8")
