"""The front door: every option acts on a target or is refused by name, and every model says how it wants to be run."""

import functools
import importlib
import inspect
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import numpyro.distributions as dist
import pytest

import smcinfer
from smcinfer import ConditionalESS, DataAnnealing, Moves, Tempering, api
from smcinfer.core.feynman_kac import FeynmanKac
from smcinfer.diffusion import Cosine, alignment
from smcinfer.ground.errors import ArgumentError, TargetError
from smcinfer.kernels import HMC
from smcinfer.language import generation
from smcinfer.models import binary_grids, conjugate
from smcinfer.models import open_mixture as om
from smcinfer.static.methods import Method
from tests import exact_models
from tests.exact_diffusion import normal_model
from tests.exact_language import LENGTH, small_lm, stepwise_score

KEY = jax.random.key(0)


@pytest.fixture
def as_users_see_it() -> Iterator[None]:
    """Without the checked signatures of the tests, which would be the first to complain."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def filtered() -> FeynmanKac:
    law = functools.partial(dist.Normal, scale=1.0)
    return smcinfer.state_space(law(0.0), lambda t, x: law(x), lambda t, x: law(x), jnp.zeros(3))


def rewarded(**options: Any) -> FeynmanKac:
    return alignment(normal_model(Cosine()), lambda x: -jnp.sum(x**2), num_steps=3, **options)


MODELS: dict[str, Any] = {
    "composed": lambda: exact_models.hmm("twisted"),
    "filter": filtered,
    "graph": lambda: smcinfer.annealed(binary_grids.binary_grid(jax.random.key(1), 2, 0.5).graph()),
    "mixture": lambda: om.annealed(om.open_mixture(np.zeros((2, 1)), num_slots=2)),
    "text": lambda: generation(small_lm(), (1,), stepwise_score, max_tokens=LENGTH, eos_id=0),
    "diffusion": rewarded,
    "diffusion, strength found": lambda: rewarded(strength="ess"),
}
OPTIONS: dict[str, Any] = {"method": ["tempering", Tempering(), DataAnnealing()], "kernel": ["hmc", HMC()]}


def target(**given: Any) -> smcinfer.StaticTarget:
    return smcinfer.posterior(dist.Normal(0.0, 1.0), lambda x, *y: -0.5 * (x - sum(y, 1.0)) ** 2, **given)


@pytest.mark.dealt
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("family", MODELS)
def test_what_cannot_act_on_a_model_is_refused_by_name(family: str, option: str) -> None:
    model = MODELS[family]()
    for value in OPTIONS[option]:
        with pytest.raises(ArgumentError, match=f"takes no {option}"):
            smcinfer.sample(KEY, model, **{option: value})


@pytest.mark.parametrize("family", ["graph", "mixture", "static", "waste-free", "static, led by conditional ESS"])
def test_models_that_must_resample_refuse_to_do_less(family: str) -> None:
    methods = {
        "static": Tempering(),
        "waste-free": Tempering("conditional_ess", chain_length=8),
        "static, led by conditional ESS": Tempering(smcinfer.ESS(0.9)),
    }
    model, options = (target(), {"method": methods[family]}) if family in methods else (MODELS[family](), {})
    with pytest.raises(ArgumentError, match="resample_below"):
        smcinfer.sample(KEY, model, resample_below=0.5, **options)


def test_the_options_are_those_of_the_design() -> None:
    assert (
        list(inspect.signature(smcinfer.sample).parameters)
        == (
            "key target num_particles num_runs method kernel resampling resample_below islands devices "
            "particle_batch history progress "
            "checkpoint checkpoint_seconds check tolerance"
        ).split()
    )


def test_a_run_to_a_tolerance_takes_every_other_option(monkeypatch: pytest.MonkeyPatch) -> None:
    class ReachedError(Exception):
        pass

    def seen(*_: Any, **options: Any) -> None:
        raise ReachedError(sorted(options))

    original = api.sample
    monkeypatch.setattr(api, "sample", seen)
    apart = {"key", "target", "checkpoint", "checkpoint_seconds", "check", "tolerance"}
    with pytest.raises(ReachedError) as found:
        original(KEY, conjugate.EXAMPLES["beta_binomial"]().target, tolerance=0.1)
    assert found.value.args[0] == sorted(set(inspect.signature(original).parameters) - apart)


BAD: dict[str, list[Any]] = {
    "num_particles": ["100", 1e3, 2.5, True, 0, None],
    "num_runs": ["4", 2.0, False, 0],
    "method": ["annealing", Tempering, ConditionalESS(), 3],
    "kernel": ["walk", HMC, 3],
    "resampling": ["systematik", 3],
    "resample_below": ["0.5", 1.5, True],
    "islands": [0, "2", 3],
    "devices": [[], "cpu", 3, [jax.devices()[0]] * 2],
    "particle_batch": [0, "8", 2.5, True],
    "history": ["all", True],
    "progress": ["no", 1],
    "checkpoint_seconds": [-1, "30", float("nan")],
    "tolerance": [0.0, "0.1", float("nan")],
}


@pytest.mark.usefixtures("as_users_see_it")
@pytest.mark.parametrize("option", BAD)
def test_slips_are_found_before_any_work(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("work started")

    monkeypatch.setattr(importlib.import_module("smcinfer.run.runner"), "_unborn", never)
    for value in BAD[option]:
        with pytest.raises(ArgumentError, match=option.removesuffix("ing")):
            smcinfer.sample(KEY, target(), **({"num_particles": 64} | {option: value}))


@pytest.mark.usefixtures("as_users_see_it")
@pytest.mark.parametrize(
    "build",
    [
        lambda: Tempering(led="yes"),
        lambda: Tempering(moves=Moves),
        lambda: Tempering(max_steps=0),
        lambda: Tempering(max_steps="9"),
        lambda: Tempering(chain_length=1),
        lambda: Tempering(ConditionalESS),
        lambda: Tempering("linear"),
        lambda: Tempering([0.5, 1.0], max_steps=9),
        lambda: Tempering(chain_length=8, moves=Moves(3)),
        lambda: DataAnnealing(batch_size=0),
        lambda: DataAnnealing(batch_size=1.0),
        lambda: DataAnnealing(led=None),
        lambda: Moves(2, 3),
        lambda: Moves(0),
        lambda: Moves(5, 1, 1.0),
    ],
)
def test_methods_are_checked_when_they_are_written_down(build: Any) -> None:
    with pytest.raises(ArgumentError):
        build()


def test_a_method_that_a_target_has_no_data_for_is_refused() -> None:
    with pytest.raises(TargetError, match="sum over data"):
        smcinfer.sample(KEY, target(), method="data_annealing")
    with pytest.raises(ArgumentError, match="batch_size"):
        smcinfer.sample(KEY, target(data=jnp.zeros(3)), method=DataAnnealing(batch_size=4))


PLANS: dict[str, tuple[float, int, str]] = {
    "composed": (0.5, 10, "sampling"),
    "filter": (0.5, 10, "filtering"),
    "graph": (1.0, 3, "sampling"),
    "mixture": (1.0, 3, "sampling"),
    "text": (0.5, 10, "generating"),
    "diffusion": (0.5, 10, "denoising"),
    "diffusion, strength found": (0.5, 10, "denoising"),
}


@pytest.mark.parametrize("family", PLANS)
def test_models_say_how_they_want_to_be_run_and_what_they_are_weighted_for(family: str) -> None:
    plan = MODELS[family]().plan
    assert (plan.threshold(None), plan.lag, plan.label) == PLANS[family]
    assert "log Z" in plan.described()["weighted_for"]


@pytest.mark.parametrize("method", [Tempering(), Tempering(chain_length=8), DataAnnealing()])
def test_paths_of_static_targets_export_draws_under_the_users_names(method: Method) -> None:
    model = method.model(target(data=jnp.zeros(3)), HMC())
    shown = jax.eval_shape(lambda: model.exported(model.init(KEY, 8).particles))
    assert {name: leaf.shape for name, leaf in shown.items()} == {"theta": (8,)}
    assert {"weighted_for", "method", "kernel"} <= set(model.plan.described())


@pytest.mark.slow
def test_a_result_prints_what_it_is_weighted_for() -> None:
    result = smcinfer.sample(KEY, filtered(), num_particles=8, num_runs=2, progress=False)
    assert "weighted for  the filter at the end" in str(result)
    assert result.settings["resample_below"] == 0.5 and "what" not in result.settings
