"""The values that `zprime tune` tries: of every recipe one parameter, and three values of it.

Each recipe has a sweep of equal size, so that none is ahead for having been tuned longer. The parameter is
the one that decides most about the method; where a method has none of its own, it is the weight decay.
Learning rates are not swept: all recipes share the budget.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sweep:
    """What is tried for a recipe.

    Attributes:
        parameter: its dotted name in the recipe's definition.
        values: three of them.
    """

    parameter: str
    values: tuple[float, float, float]


DECAY = Sweep("weight_decay", (1e-4, 1e-3, 1e-2))
OF_RECIPE = {
    "effective_number": Sweep("method.beta", (0.9, 0.99, 0.999)),
    "hardest": Sweep("method.candidates", (2, 3, 4)),
    "hardest_in_groups": Sweep("method.candidates", (2, 3, 4)),
    "loss_proportional": Sweep("method.candidates", (2, 3, 4)),
    "cvar": Sweep("method.share", (0.1, 0.3, 0.6)),
    "group_dro": Sweep("method.step_size", (0.01, 0.03, 0.1)),
    "group_dro_balanced": Sweep("method.step_size", (0.01, 0.03, 0.1)),
    "spectral_decoupling": Sweep("method.strength", (0.005, 0.025, 0.1)),
    "occam": Sweep("method.suppression", (0.0, 0.03, 0.1)),
    "fgsm": Sweep("method.epsilon", (2.0, 4.0, 8.0)),
    "pgd": Sweep("method.epsilon", (2.0, 4.0, 8.0)),
    "dann": Sweep("method.penalty", (0.1, 0.3, 1.0)),
    "conditional_dann": Sweep("method.penalty", (0.1, 0.3, 1.0)),
    "adversarial_parity": Sweep("method.alpha", (0.1, 1.0, 10.0)),
    "adversarial_odds": Sweep("method.alpha", (0.1, 1.0, 10.0)),
    "adversarial_odds_intersections": Sweep("method.alpha", (0.1, 1.0, 10.0)),
    "jtt": Sweep("phases.repeats", (4, 10, 30)),
    "pseudo_groups_dro": Sweep("phases.share", (0.05, 0.1, 0.25)),
    "pseudo_groups_balanced": Sweep("phases.share", (0.05, 0.1, 0.25)),
    "mixup": Sweep("method.alpha", (0.2, 0.5, 2.0)),
    "lisa": Sweep("method.alpha", (0.5, 1.0, 2.0)),
}


def sweep_of(recipe: str) -> Sweep:
    """Return the sweep of a recipe."""
    return OF_RECIPE.get(recipe, DECAY)
