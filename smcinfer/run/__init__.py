"""Loops on the host around compiled programs: the SMC loop, Markov chains, training, checkpoints."""
