"""The place of each stage's output: one writer, any number of readers."""

from pathlib import Path

REAL = Path("out/real")
REAL_LABELS = Path("out/real_labels/labels.parquet")  # of the real images, predicted where they were missing
ATTRIBUTES = Path("out/attributes")
GENERATOR = Path("out/generator")
LATENTS = Path("out/latents")
SYNTHETIC = Path("out/synthetic")
LABELS = Path("out/labels")
HYPERPLANES = Path("out/hyperplanes")
BALANCED = Path("out/balanced")
JUDGES = Path("out/judges")
QUALITY = Path("out/quality")
RUNS = Path("out/runs")
EVALUATION = Path("out/evaluation")
RECOMMENDATION = EVALUATION / "recommendation.json"
REPORT = Path("out/report")
EXPORT = Path("out/export")
METRICS = Path("metrics.json")
RESULTS = Path("docs/results.md")
ABLATIONS = Path("docs/results/ablations.json")
METHODS = Path("docs/results/methods.json")
METHODS_PAGE = Path("docs/methods.md")
LABEL_NOISE = Path("docs/results/label_noise.json")
LABEL_NOISE_FIGURE = Path("docs/results/label_noise.png")
SWEEPS = Path("docs/results/sweeps.json")
PRESETS = Path("presets")
BESIDE = Path("docs/results/beside")  # results of other benchmarks, a file each
