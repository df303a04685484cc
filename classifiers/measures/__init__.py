"""Code that only measures: metrics, divergences, bootstrap, judging, fidelity, the probe."""
