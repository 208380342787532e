"""Learned proposals and twists: each entry is a folder with code, recipe, weights and a card."""
