"""The schema of out/latents/LATENTS_prime/metrics.json."""

from pipeline.content.typed_files import FilePart, StageFile


class MovesOfFlips(FilePart):
    """The moves of the complements that flip one subset of the protected attributes.

    Attributes:
        complements: how many there are.
        condition_number: of W, the worst domain's.
        angle_degrees: θ, the worst domain's; None if nothing is kept.
        move_length_median, move_length_95th_percentile: of ‖z′ − z‖, rounded up to 0.01.
        flipped_on_sphere: share of the complements that lie in the intended domain as rendered.
    """

    complements: int
    condition_number: float
    angle_degrees: float | None
    move_length_median: float
    move_length_95th_percentile: float
    flipped_on_sphere: float


class Moves(StageFile):
    """out/latents/LATENTS_prime/metrics.json: the moves of all complements, and of each subset of flips.

    Attributes:
        by_flips: the attributes to flip, joined by "+" -> the moves of their complements.
        condition_number, move_length_median, move_length_95th_percentile, flipped_on_sphere: as in
            `MovesOfFlips`, of all complements.
    """

    condition_number: float
    move_length_median: float
    move_length_95th_percentile: float
    flipped_on_sphere: float
    by_flips: dict[str, MovesOfFlips]
