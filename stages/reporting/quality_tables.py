"""The tables on the quality of the synthetic images."""

from collections.abc import Mapping, Sequence

from stages.reporting.steps import count, number, set_name
from stages.reporting.tables import Table
from stages.reporting.text import group_headings, percent
from stages.shared.quality import Distances, Judged, LabelNoise, ProbeOfSource, Quality


def quality(figures: Quality) -> list[Table]:
    """Show everything in out/quality/quality.json: distances, the probe, and the judge if any."""
    sheets = [_distances(figures.distances), _probe(figures.probe, figures.groups)]
    return sheets + (_judge(figures.judge, figures.groups) if figures.judge else [])


def _distances(distances: Distances) -> Table:
    names = list(distances.sets[0].classifier_frechet_distance)
    fid = any(row.fid is not None for row in distances.sets)
    return Table(
        "Distance from real images",
        f"of {count(distances.images)} images of each set. In the features of each attribute classifier: "
        "a Fréchet distance, but not an FID; it compares sets within this table. Of real training images "
        "from others of them: what so few images give alone.",
        ["Images", "From", *(f"Fréchet distance, classifier of {name}" for name in names), *["FID"] * fid],
        [
            [
                set_name(row.set),
                set_name(row.reference),
                *(number(row.classifier_frechet_distance[name]) for name in names),
                *[number(row.fid)] * fid,
            ]
            for row in distances.sets
        ],
        labels=2,
    )


def _probe(probe: Mapping[str, ProbeOfSource], names: Sequence[str]) -> Table:
    return Table(
        "Real or synthetic? The probe",
        "area under the ROC curve (%) of a small classifier told to separate them, on images it has not "
        "seen: 50 is ideal, 100 a cue that can be learned in place of the target. Groups: of given labels.",
        ["Synthetic images", "n of each kind", "AUC (%)", *group_headings(names)],
        [
            [set_name(source), count(of.images), percent(of.auc), *map(percent, of.group_auc)]
            for source, of in probe.items()
        ],
    )


def _judge(judge: Judged, names: Sequence[str]) -> list[Table]:
    headings = group_headings(names)
    changed = list(next(iter(next(iter(judge.complements.values())).values())).changed)
    said_of = {name: f"{name}, computed from the pixels" for name in judge.measured}
    return [
        Table(
            "The judge",
            "used for evaluation alone; where it is a network, trained on a balanced set of real images. Its "
            "accuracy on the real test set, in percent, bounds what the tables below can tell.",
            ["Attribute", "Accuracy", "Worst group", *headings],
            [
                [said_of.get(name, name), percent(of.accuracy), percent(of.worst_group_accuracy),
                 *map(percent, of.group_accuracies)]
                for name, of in judge.real_test.items()
            ],
        ),
        Table(
            "What the generator makes",
            "share of each group among the images, as the judge sees them, in percent.",
            ["Images", "n", *headings],
            [
                [set_name(source), count(of.images), *(percent(n / of.images) for n in of.group_n)]
                for source, of in judge.sources.items()
            ],
        ),
        Table(
            "Classifiers and hyperplanes against the judge",
            "on synthetic images, in percent; by judged group the accuracy.",
            ["Images", "Of", "Attribute", "Accuracy", "Balanced accuracy", *headings],
            [
                [set_name(source), kind, name, percent(of.accuracy),
                 percent(of.balanced_accuracy), *map(percent, of.group_accuracies)]
                for source, kinds in judge.sources.items()
                for kind, said in (("classifier", kinds.classifiers), ("hyperplane", kinds.hyperplanes))
                for name, of in said.items()
            ],
            labels=3,
        ),
        Table(
            "True flip and keep rates",
            "share of the complements, in percent, whose attribute differs from their z’s, as the judge sees "
            "both: 100 is right for what was to flip, 0 for all else. “As asked”: just what was to flip did; "
            "on the right, by the judged group of z.",
            ["Complements", "To flip", "Pairs", *(f"{name} changed" for name in changed), "As asked",
             *headings],
            [
                [set_name(source), flips.replace("+", " + "), count(of.pairs),
                 *(percent(of.changed[name]) for name in changed),
                 percent(of.as_asked), *map(percent, of.group_as_asked)]
                for source, by_flips in judge.complements.items()
                for flips, of in by_flips.items()
            ],
            labels=2,
        ),
        Table(
            "True label noise",
            "share of the images trained on, in percent, whose given label is wrong, as the judge sees it, "
            "by given group. “Group”: the target or a protected attribute is wrong.",
            ["Training data", "Images", "Wrong", "n", "All", *headings],
            [row for data, sources in judge.labels.items() for row in _noise(data, sources)],
            labels=3,
        ),
    ]  # fmt: skip


def _noise(data: str, sources: Mapping[str, LabelNoise]) -> list[list[str]]:
    return [
        [
            data,
            set_name(source),
            wrong,
            count(of.images),
            percent(_average(noise, of.group_n)),
            *map(percent, noise),
        ]
        for source, of in sources.items()
        for wrong, noise in {"group": of.group_noise, **of.noise}.items()
    ]


def _average(shares: Sequence[float | None], sizes: Sequence[int]) -> float | None:
    """Return the share over all images, from the shares in groups of these sizes."""
    total = sum(sizes)
    return sum((share or 0.0) * n for share, n in zip(shares, sizes, strict=True)) / total if total else None
