"""Records of every kind: they print, and files give them back bit for bit or not at all."""

import dataclasses
import inspect
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import smcinfer
from smcinfer.core.status import Status
from smcinfer.ground.errors import ArgumentError, CheckpointError, FileError
from smcinfer.ground.io import FORMAT, Content, write_netcdf
from smcinfer.results import Bound, Record, load
from smcinfer.results.record import HOMES, KINDS, arrays
from tests.synthetic import COMMON, RECORDS, make_chains, make_result, make_smoothed


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Walk(Record):
    """The kind that the docstring of the base shows."""

    points: np.ndarray = arrays("chain", "draw")
    num_accepted: int

    def _title(self) -> str:
        return f"random walk of {self.points.shape[1]} steps"

    def _lines(self) -> list[tuple[str, str]]:
        return [("accepted", str(self.num_accepted))]


def assert_same(first: Any, second: Any) -> None:
    """Of one kind, with arrays of the same dtype, shape and bits, and everything else equal."""
    assert type(first) is type(second)
    if isinstance(first, np.ndarray):
        assert first.dtype == second.dtype and first.shape == second.shape
        assert first.tobytes() == second.tobytes()
    elif isinstance(first, dict):
        assert set(first) == set(second)
        for name, value in first.items():
            assert_same(value, second[name])
    elif isinstance(first, Record):
        for field in dataclasses.fields(first):
            assert_same(getattr(first, field.name), getattr(second, field.name))
    else:
        assert first == second


def test_every_kind_is_in_the_table() -> None:
    kinds = {name for name, kind in KINDS.items() if kind.__module__.startswith("smcinfer.")}
    assert {name for name in kinds if not inspect.isabstract(KINDS[name])} == set(RECORDS) == set(HOMES)
    assert {name: KINDS[name].__module__ for name in HOMES} == HOMES


@pytest.mark.parametrize("name", RECORDS)
class TestEveryKind:
    """What any record can do."""

    def test_save_load_and_print(self, name: str, tmp_path: Path) -> None:
        record = RECORDS[name]()
        back = smcinfer.load(record.save(tmp_path / "record.nc"))
        assert_same(back, record)
        assert str(back) == str(record) and repr(back) == str(back)
        assert [path.name for path in tmp_path.iterdir()] == ["record.nc"]

    def test_it_says_what_it_is(self, name: str) -> None:
        record = RECORDS[name]()
        text, page = str(record), record._repr_html_()
        for label in ("weighted for", "status", "time"):
            assert label in text and label in page
        assert record.weighted_for in text and "OK" in text and text.startswith("smcinfer ")
        assert record.seconds > record.compile_seconds and isinstance(record.settings, dict)

    def test_settings_can_say_better_what_it_is_weighted_for(self, name: str) -> None:
        if name == "Cascade":
            pytest.skip("whether a cascade is weighted for anything follows from how it went")
        record = dataclasses.replace(RECORDS[name](), settings=RECORDS[name]().settings | {"weighted_for": "the moon"})
        assert record.weighted_for == "the moon" and "the moon" in str(record)

    @pytest.mark.dealt
    def test_a_flipped_bit_is_refused(self, name: str, tmp_path: Path) -> None:
        record = RECORDS[name]()
        path = record.save(tmp_path / "record.nc")
        whole = path.read_bytes()
        values = [getattr(record, field.name) for field in dataclasses.fields(record)]
        values += [part for value in values if isinstance(value, dict) for part in value.values()]
        needles = [value.tobytes()[:64] for value in values if isinstance(value, np.ndarray) and value.any()]
        assert needles
        for offset in [whole.index(needle) + 3 for needle in needles] + [whole.index(b'"seconds"') + 3]:
            path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 1]) + whole[offset + 1 :])
            with pytest.raises(CheckpointError):
                load(path)


def test_a_kind_of_ones_own(tmp_path: Path) -> None:
    walk = Walk(points=np.arange(6.0).reshape(2, 3), num_accepted=4, settings={"step": 0.1}, **COMMON)
    assert_same(load(walk.save(tmp_path / "walk.nc")), walk)
    assert str(walk).splitlines()[:2] == ["random walk of 3 steps", "  accepted      4"]
    with pytest.raises(ArgumentError, match="'points' has the wrong shape"):
        Walk(points=np.zeros(3), num_accepted=0, settings={}, **COMMON)


def test_results_with_bounds_and_awkward_arrays(tmp_path: Path) -> None:
    particles = {
        "a/b": np.arange(200, dtype=np.int64).reshape(4, 50),
        "group.x y": np.random.default_rng(0).normal(size=(4, 50, 2, 3)).astype(np.float32),
        "flag": np.arange(200).reshape(4, 50) % 3 == 0,
        "β": np.full((4, 50), math.nan),
        "none": np.zeros((4, 50, 0)),
        "chain": np.full((4, 50), -math.nan),
        "chain_": np.ones((4, 50)),
        "beta": np.ones((4, 50, 2)),
        "beta_dim_0": np.zeros((4, 50)),
        "time": np.zeros((4, 50), np.uint8),
    }
    result = make_result(
        particles=particles,
        log_z_runs=np.array([-math.inf, 1.0, 2.0, 3.0], np.float32),
        settings={"notes": "x" * 200_000, "none": None, "nested": {"a": [1, 2.5]}},
        history={},
    ).with_upper_bound(Bound(4.0, 0.5))
    back = load(result.save(tmp_path / "run.nc"))
    assert_same(back, result)
    assert back.upper_bound == Bound(4.0, 0.5) and isinstance(back.upper_bound, Bound)


def test_a_bound_given_to_a_result_leaves_the_first_as_it_was() -> None:
    result = make_result()
    bounded = result.with_upper_bound(Bound(-5.0, 0.1))
    assert result.upper_bound is None and bounded.upper_bound == (-5.0, 0.1)
    assert bounded.particles["theta"] is result.particles["theta"] and bounded.log_z == result.log_z
    assert bounded.to_arviz().attrs["log_z_upper_bound"] == [-5.0, 0.1]


def test_exports_of_smoothing_and_chains_lose_no_variable() -> None:
    names = ["x", "time", "chain", "chain_", "x_dim_0"]
    values = {name: np.full((2, 4, 5), float(at)) for at, name in enumerate(names)}
    tree = make_smoothed(values=values | {"pair": np.zeros((2, 4, 5, 2))}).to_arviz()["posterior"]
    assert {name: float(tree[name].values.flat[0]) for name in tree.data_vars} == {
        "x": 0, "time_": 1, "chain_": 2, "chain__": 3, "x_dim_0_": 4, "pair": 0
    }  # fmt: skip
    assert tree["time_"].dims == ("chain", "draw", "time") and tree["pair"].dims[2:] == ("time", "pair_dim_0")
    draws = {name: np.full((3, 20), float(at)) for at, name in enumerate(names)}
    posterior = make_chains(draws=draws).to_arviz()["posterior"]
    assert {float(posterior[name].values.flat[0]) for name in posterior.data_vars} == {0, 1, 2, 3, 4}


def test_other_readers_see_the_arrays(tmp_path: Path) -> None:
    result = make_result()
    with xr.open_datatree(result.save(tmp_path / "run.nc"), engine="h5netcdf") as tree:
        assert tree["particles/theta"].dims == ("run", "particle", "theta_dim_0")
        np.testing.assert_array_equal(tree["particles/theta"].values, result.particles["theta"])
        assert tree.attrs["kind"] == "Result"


class TestFiles:
    """What cannot be read or written."""

    def test_cut_short_anywhere(self, tmp_path: Path) -> None:
        path = make_result().save(tmp_path / "run.nc")
        whole = path.read_bytes()
        for fraction in (0.0, 0.01, 0.3, 0.7, 0.99):
            path.write_bytes(whole[: int(fraction * len(whole))])
            with pytest.raises(CheckpointError, match="damaged, cut short"):
                load(path)

    def test_what_is_no_record(self, tmp_path: Path) -> None:
        with pytest.raises(ArgumentError, match="no such file"):
            load(tmp_path / "absent.nc")
        path = tmp_path / "other.nc"
        xr.Dataset({"x": ("i", np.arange(3))}).to_netcdf(path, engine="h5netcdf")
        with pytest.raises(CheckpointError, match="not a file of this package"):
            load(path)
        groups = {"": {"x": np.arange(3)}}
        with pytest.raises(CheckpointError, match="kind of record that is not known"):
            load(write_netcdf(path, Content("os.system", groups, {}), {}))
        with pytest.raises(CheckpointError, match="lacks a part of a Result"):
            load(write_netcdf(path, Content("Result", groups, {}), {}))
        with xr.open_datatree(make_result().save(path), engine="h5netcdf") as tree:
            later = tree.load()
        later.attrs["format"] = "smcinfer-record-99"
        later.to_netcdf(path, engine="h5netcdf")
        with pytest.raises(CheckpointError, match=f"another format\n.*{FORMAT}"):
            load(path)

    def test_a_failed_save_leaves_the_old_file(self, tmp_path: Path) -> None:
        path = make_result(seed=1).save(tmp_path / "run.nc")
        before = path.read_bytes()
        for particles in ({"x": np.full((4, 50), "word")}, {"a/b": np.ones((4, 50)), "a.b": np.ones((4, 50))}):
            with pytest.raises(ArgumentError, match="cannot save 'x'|one name"):
                make_result(particles=particles).save(path)
        assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1

    def test_unwritable_places(self, tmp_path: Path) -> None:
        for path in (tmp_path, tmp_path / "absent" / "run.nc", Path("/proc/run.nc")):
            with pytest.raises(ArgumentError, match="cannot write"):
                make_result().save(path)

    def test_a_full_disk_is_an_error_however_often(self, small_disk: Path) -> None:
        small = make_result(2, 10, 3)
        path = small.save(small_disk / "run.nc")
        large = make_result(particles={"x": np.zeros((4, 50, 1000))})
        for _ in range(3):
            with pytest.raises(FileError, match="could not be written.*\n.*No space left"):
                large.save(path)
        assert_same(load(path), small)
        assert_same(load(large.save(small_disk.parent / "run.nc")), large)


def test_status_of_a_record_is_explained() -> None:
    record = make_chains(status=Status.ALL_WEIGHTS_ZERO)
    assert record.serious and "ALL_WEIGHTS_ZERO: every particle" in str(record)
