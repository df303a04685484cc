"""The schema of out/balanced/datasheet.json, and of the summaries in out/evaluation/data.json."""

from data.attributes import Attributes
from data.parameters import Gates
from pipeline.content.typed_files import FileOf, FilePart, Share, StageFile

ByGroup = dict[str, int]  # group_0, group_1, ... -> images


class Summary(FilePart):
    """The labels of a set of training images.

    Attributes:
        kl_joint, kl_uniform: nats; divergence of the groups from independence, and from groups of equal size.
        kl_target, kl_protected: nats; divergence of an attribute's two values from half and half.
    """

    images: int
    group_counts: ByGroup
    kl_joint: float
    kl_uniform: float
    kl_target: float
    kl_protected: dict[str, float]

    @property
    def divergences(self) -> dict[str, float]:
        """The divergences of the groups, by name."""
        return {"kl_joint": self.kl_joint, "kl_uniform": self.kl_uniform}


class Summaries(FileOf[dict[str, Summary]]):
    """out/evaluation/data.json: of each data set that is trained on, its summary."""


class SampledSummary(Summary):
    """The labels of the control `sampled`.

    Attributes:
        quota: synthetic images of each group.
        distinct: how many of them are different images; the others repeat these.
    """

    quota: ByGroup
    distinct: ByGroup


class Cap(FilePart):
    """The limit on the synthetic images of a group, what determines it, and how many images it dropped."""

    per_group: int
    cut_by: str
    dropped: ByGroup


class FlippedAndKept(FilePart):
    """One attribute: the share of complements that flipped it as asked, and of the others that kept it."""

    flipped: Share
    kept: Share


class ComplementsOfSource(FilePart):
    """The complements of a source, as the attribute classifiers and the hyperplanes see them.

    Attributes:
        kept: how many passed every gate.
        dropped: gate -> "all" and each group -> how many it dropped.
    """

    images: int
    kept: int
    dropped: dict[str, ByGroup]
    target_kept: Share
    protected_flipped: Share
    hyperplane_target_kept: Share
    hyperplane_flipped: Share
    attributes: dict[str, FlippedAndKept]


class Datasheet(StageFile):
    """out/balanced/datasheet.json: the section `balance` of params.yaml, and its outcome.

    Attributes:
        policy, sources, label, gates, dropped, synthetic_per_real: as in `data.parameters.Balance`.
        groups: group_0, group_1, ... -> the group's name.
        before, after: the training images without and with the synthetic ones.
        target_kept, protected_flipped: of all complements, by the attribute classifiers.
        complements: by source.
    """

    policy: str
    sources: list[str]
    label: str
    gates: Gates
    dropped: str
    synthetic_per_real: float | None
    attributes: Attributes
    groups: dict[str, str]
    before: Summary
    after: Summary
    synthetic: Summary
    cap: Cap
    sampled: SampledSummary
    target_kept: Share
    protected_flipped: Share
    complements: dict[str, ComplementsOfSource]
