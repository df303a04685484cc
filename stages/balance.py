"""balance: join real and synthetic images with labels; writes manifests and a datasheet to out/balanced/."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data.balancing import (
    added_rows,
    candidates_of,
    counts_of,
    manifest_of,
    real_rows,
    sampled_manifest_of,
    synthetic_rows,
    with_groups,
)
from data.gates import dropped_counts, judged_complements, kept_by, passed_gates, shares_of
from data.trust import balance_judgement, complements_judgement, cross_checks
from pipeline.content.groups import group_names
from pipeline.content.stores import Store
from pipeline.content.tables import join_by_id, read_table, write_table
from pipeline.content.trust import settle
from pipeline.stage import run_stage
from pipeline.work import work_folder
from stages.parameters import AllParameters, read_parameters
from stages.shared.datasheet import Datasheet
from stages.shared.labeller_metrics import LabellerMetrics
from stages.shared.paths import ATTRIBUTES, BALANCED, LABELS, REAL, REAL_LABELS, SYNTHETIC
from stages.shared.summaries import by_group, summary_of

# The columns of complements.parquet: how each complement was judged.
JUDGED_COLUMNS = [
    "id", "source", "pair_id", "flips", "group", "target_kept", "protected_flipped", "hyperplane_target_kept",
    "hyperplane_flipped", "move_length", "confidence", "kept",
]  # fmt: skip

STEPS = {"z_prime": "complements", "real_prime": "complements of real images"}  # judged steps by source


def labelled_rows(source: str) -> pd.DataFrame:
    """Return the rows of a synthetic store with their scores and labels, joined by id."""
    rows = Store(SYNTHETIC / source).rows.drop(columns=["shard", "row"])
    labels = Store(LABELS / source).rows.drop(columns=["shard", "row"])
    return join_by_id(rows, labels, str(LABELS / source))


def labeller_accuracies(source: str, parameters: AllParameters) -> NDArray[np.float64]:
    """Return the accuracy of the target labels of a source's originals, [n_groups]; NaN if unknown."""
    if source == "real_prime":
        return np.ones(2 * parameters.n_protected)  # the labels of real images are the truth
    found = LabellerMetrics.read(ATTRIBUTES / parameters.target / "metrics.json").group_accuracies
    return np.array([np.nan if accuracy is None else accuracy for accuracy in found])


def checker_accuracy(parameters: AllParameters) -> float | None:
    """Return the lowest checker accuracy in any group of real validation images; None without checkers."""
    files = [ATTRIBUTES / name / "metrics.json" for name in parameters.attributes]
    found = [
        accuracy
        for path in files
        if path.is_file()
        for accuracies in LabellerMetrics.read(path).checker_accuracies
        for accuracy in accuracies
        if accuracy is not None
    ]
    return min(found, default=None)


def main() -> None:
    """Join real images and pairs into one manifest, and the control `sampled` into another; describe both."""
    parameters = read_parameters()
    section, names, n_protected = parameters.balance, parameters.attributes, parameters.n_protected
    protected, groups = parameters.protected, group_names(parameters.target, parameters.protected)
    sources = ("z", *section.complements)
    stores = {source: str(SYNTHETIC / source) for source in sources}
    labels = read_table(REAL_LABELS, ("id", "split", *names))
    real = real_rows(labels, names, str(REAL))
    z = labelled_rows("z")

    judged, kept, about, judgements = {}, {}, {}, []
    for source in section.complements:
        of_real_images = source == "real_prime"
        originals = labels if of_real_images else z
        accuracies = labeller_accuracies(source, parameters)
        rows = labelled_rows(source)
        table = judged_complements(rows, originals, names, section.label, accuracies)
        passed = passed_gates(table, section.gates)
        judged[source], kept[source] = table, kept_by(passed, len(table))
        about[source] = {
            "images": len(table),
            "kept": int(kept[source].sum()),
            "dropped": dropped_counts(table, passed, 2 * n_protected),
            **shares_of(table, names),
        }
        checks, by_checkers = cross_checks(rows, originals, names, of_real_images)
        judgements.append(
            complements_judgement(
                STEPS[source],
                checks,
                by_checkers,
                kept[source],
                groups,
                section.label == "inherited",
                checker_accuracy(parameters),
            )
        )
    candidates = candidates_of(z, judged, kept, names, section.sources, section.dropped, stores)
    added = added_rows(
        real, candidates, section.policy, section.synthetic_per_real, n_protected, section.seed
    )
    synthetic = added.rows
    of_training = real[real["split"] == "train"]
    before = summary_of(of_training, protected)
    columns = ["target", "protected"]
    after = summary_of(pd.concat([of_training[columns], synthetic[columns]]), protected)
    judgements.append(balance_judgement(before, after, added, parameters.target))
    work = work_folder("balance")
    settle(judgements, work.folder, parameters.on_useless)

    manifest = manifest_of(real, added)
    complements = pd.concat(
        [table.assign(source=source, kept=kept[source]) for source, table in judged.items()],
        ignore_index=True,
    )

    quota = counts_of(synthetic, n_protected)
    plain = synthetic_rows(with_groups(z, names).assign(pair_id=z["id"]), names, "z", stores["z"])
    sampled = sampled_manifest_of(real, plain, quota, n_protected, section.seed)
    distinct = sampled[sampled["source"] == "z"].drop_duplicates("id")

    overall = shares_of(complements, names)
    content: dict[str, Any] = {
        "attributes": {"target": parameters.target, "protected": protected},
        "groups": {f"group_{group}": name for group, name in enumerate(groups)},
        **section.model_dump(exclude={"seed"}),
        "before": before,
        "after": after,
        "synthetic": summary_of(synthetic, protected),
        # The limit on synthetic images per group: what sets it, and how many images it dropped.
        "cap": {"per_group": added.cap, "cut_by": added.cut_by, "dropped": by_group(added.dropped)},
        "sampled": {
            **summary_of(sampled[sampled["split"] == "train"], protected),
            "quota": by_group(quota),
            "distinct": by_group(counts_of(distinct, n_protected)),
        },
        # Shares by the classifiers; inherited labels assume that both are 1.
        "target_kept": overall["target_kept"],
        "protected_flipped": overall["protected_flipped"],
        "complements": about,
    }
    datasheet = Datasheet.model_validate(content)
    write_table(work.folder / "manifest.parquet", manifest)
    write_table(work.folder / "sampled.parquet", sampled)
    write_table(work.folder / "complements.parquet", complements[JUDGED_COLUMNS])
    datasheet.write(work.folder / "datasheet.json")
    work.publish(BALANCED)
    print(f"balance: {len(synthetic):,} synthetic images join {datasheet.before.images:,} real ones")


if __name__ == "__main__":
    run_stage(main)
