"""Ready targets: conjugate models with exact answers, standard posteriors, and posteriordb."""
