"""Estimators and moves over whole texts: cascades, decisions, next bytes, Gibbs over segments."""
