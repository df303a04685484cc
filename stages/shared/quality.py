"""The schema of out/quality/quality.json."""

from pipeline.content.typed_files import FilePart, Share, StageFile
from stages.shared.judge_metrics import Agreement


class Distance(FilePart):
    """How far a set of images is from a reference, by each network's features; `fid`: by Inception's."""

    reference: str
    set: str
    fid: float | None
    classifier_frechet_distance: dict[str, float]


class Distances(FilePart):
    """All distances, each between equal numbers of images."""

    images: int
    inception: bool
    sets: list[Distance]


class ProbeOfSource(FilePart):
    """How well a small classifier tells a source's images from real ones.

    Attributes:
        apart: whether it separates them beyond chance.
        group_auc, group_real, group_synthetic: the AUC of each group, and its numbers of images.
    """

    auc: float
    apart: float
    images: int
    group_auc: list[Share]
    group_real: list[int]
    group_synthetic: list[int]


class JudgedSource(FilePart):
    """The groups in a source's images, and how accurate classifiers and hyperplanes are, by attribute."""

    images: int
    group_n: list[int]
    classifiers: dict[str, Agreement]
    hyperplanes: dict[str, Agreement]


class FlipRates(FilePart):
    """What changed in complements that were to flip the same attributes, by the judges."""

    pairs: int
    changed: dict[str, float]
    as_asked: float
    group_n: list[int]
    group_changed: dict[str, list[Share]]
    group_as_asked: list[Share]


class LabelNoise(FilePart):
    """How wrong the labels of a source's images are."""

    images: int
    group_n: list[int]
    confusion: list[list[int]]
    noise: dict[str, list[Share]]
    group_noise: list[Share]
    group_noise_average: Share


class Judged(FilePart):
    """All figures by the judges.

    Attributes:
        measured: the attributes that are computed from pixels, without a network.
        real_test: by attribute, the accuracy of its judge on real test images.
        sources: by source of images.
        complements: by source, then by the attributes that were to flip, joined by "+".
        labels: by data set, then by source.
    """

    measured: list[str]
    real_test: dict[str, Agreement]
    sources: dict[str, JudgedSource]
    complements: dict[str, dict[str, FlipRates]]
    labels: dict[str, dict[str, LabelNoise]]


class Quality(StageFile):
    """out/quality/quality.json.

    Attributes:
        groups: the names of the groups, [2 n_g].
        probe: by source.
        judge: null if there is no judge; then `judge_absent` says why.
    """

    groups: list[str]
    distances: Distances
    probe: dict[str, ProbeOfSource]
    judge: Judged | None
    judge_absent: str | None
