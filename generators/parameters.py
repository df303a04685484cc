"""Parameters of latents, hyperplanes, complements and rendering."""

from typing import Literal

from pydantic import (
    Field,
)

from pipeline.parameters import Parameters


class Sample(Parameters):
    """Says how many latents are drawn, and from which seed."""

    fit: int = Field(8000, ge=2)  # latents to fit the hyperplanes with
    validation: int = Field(2000, ge=1)  # latents to validate them with
    pair: int = Field(30000, ge=1)  # latents to complement
    seed: int = 0


class Synthesize(Parameters):
    """Says in which portions latents are rendered and stored."""

    batch_size: int = Field(256, ge=1)  # images; not in the result
    shard_size: int = Field(8192, ge=1)  # images


class FitHyperplanes(Parameters):
    """Says how hyperplanes are fitted to latents and their labels."""

    C: float = Field(1.0, gt=0)  # of the linear SVM
    # Every group of latents counts the same: otherwise a plane leans towards correlated attributes.
    group_balanced: bool = True
    domain_dependent: bool = False  # the target has a hyperplane of its own in every protected group
    latents: int | None = Field(None, ge=2)  # of sample.fit, how many are used: the first; null: all
    confidence: float = Field(0.5, ge=0.5, lt=1)  # of the scores that are fitted: >= this or <= 1 - this
    rare_share: float | None = Field(None, gt=0, le=0.5)  # of an attribute's rarer label; null: as it is
    seed: int = Field(0, ge=0, lt=2**32)  # scikit-learn's range


class ComplementRefinement(Parameters):
    """Says how linear complements are refined by gradient steps (`generators.refinement`)."""

    steps: int = Field(0, ge=0)  # 0: the linear complement as it is
    learning_rate: float = Field(0.1, gt=0)  # of Adam, in units of the latent space
    batch_size: int = Field(256, ge=1)  # latents; not in the result


class Complement(Parameters):
    """Says how complements are made."""

    variant: Literal["complement", "on_hyperplane", "perpendicular", "perpendicular_on_hyperplane"] = (
        "complement"
    )
    metric: Literal["euclidean", "mahalanobis"] = "euclidean"  # of the smallest move
    # Latents to pair of each group that f sees, at most: rare groups get as many pairs; null: all.
    per_group: int | None = Field(3000, ge=1)
    refine: ComplementRefinement = ComplementRefinement()
