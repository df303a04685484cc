"""The table of how many images each group has."""

from collections.abc import Mapping, Sequence

from stages.reporting.measures import TWO_GROUPS
from stages.reporting.tables import FIGURE_SPACE, Cell, Heading, Table
from stages.reporting.text import group_headings
from stages.shared.datasheet import Summary


def counts_table(
    summaries: Mapping[str, Summary], synthetic: Summary, names: Sequence[str],
    target: str, protected: Sequence[str],
) -> Table:  # fmt: skip
    """Show how many images of each group are trained on, and how far the labels are from balance.

    Args:
        summaries: by data set.
        synthetic: the summary of the augmented data's synthetic images.
        names: of the groups.
        target: the target attribute.
        protected: the protected attributes.

    Returns:
        the table.
    """
    described: list[tuple[str, Summary]] = []
    for data, summary in summaries.items():
        described.append((data, summary))
        if data == "augmented":
            described.append(("of that, synthetic", synthetic))
    rows: list[list[Cell | str]] = []
    for name, summary in described:
        counts = [summary.group_counts[f"group_{group}"] for group in range(len(names))]
        shares = [f"{100 * n / max(summary.images, 1):.1f}".rjust(5, FIGURE_SPACE) + " %" for n in counts]
        rows.append(
            [name, f"{summary.images:,}",
             *(Cell(f"{n:,}", share) for n, share in zip(counts, shares, strict=True)),
             f"{summary.kl_joint:.4f}", f"{summary.kl_uniform:.4f}"]
        )  # fmt: skip
    groups = [
        Heading(heading, f"group_{group}", names[group])
        for group, heading in enumerate(group_headings(names))
    ]
    return Table(
        "Group counts and KL divergence of the training labels",
        f"`kl_joint` is D(p(t,g) ‖ p(t) p(g)), 0 where {target} is independent "
        f"of {' and '.join(protected)}; `kl_uniform` is D(p(t,g) ‖ uniform), 0 where all groups are of "
        "one size; in nats.",
        ["Data", "Images", *groups, "kl_joint", "kl_uniform"],
        rows,
        wide=True,
        stacked=len(names) > TWO_GROUPS,
    )
