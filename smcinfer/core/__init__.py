"""The engine: the nouns, the Feynman-Kac protocol, and one step of sequential Monte Carlo under jit."""
