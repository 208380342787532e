"""Learned twists: what the future is worth, learned by one call for every family of models."""

from smcinfer.twists.family import Family
from smcinfer.twists.filtered import gaussian_twist
from smcinfer.twists.heads import CalibratedHead, LinearHead, NetworkHead, calibrated_head, linear_head, network_head
from smcinfer.twists.learn import Learned, learn
from smcinfer.twists.learned import BoundTwist, LearnedTwist, attach
from smcinfer.twists.network import NetworkTwist, network_twist, upcoming
from smcinfer.twists.objectives import OBJECTIVES, Objective
from smcinfer.twists.probe import LinearProbe, probe
from smcinfer.twists.quadratic import QuadraticTwist
from smcinfer.twists.rollouts import RolloutTwist, rollouts
from smcinfer.twists.storage import fingerprint, load, save
from smcinfer.twists.symbols import HeadTwist, SymbolTwist, TableTwist
from smcinfer.twists.units import units

__all__ = [
    "OBJECTIVES",
    "BoundTwist",
    "CalibratedHead",
    "Family",
    "HeadTwist",
    "Learned",
    "LearnedTwist",
    "LinearHead",
    "LinearProbe",
    "NetworkHead",
    "NetworkTwist",
    "Objective",
    "QuadraticTwist",
    "RolloutTwist",
    "SymbolTwist",
    "TableTwist",
    "attach",
    "calibrated_head",
    "fingerprint",
    "gaussian_twist",
    "learn",
    "linear_head",
    "load",
    "network_head",
    "network_twist",
    "probe",
    "rollouts",
    "save",
    "units",
    "upcoming",
]
