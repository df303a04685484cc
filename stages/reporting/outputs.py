"""Descriptions of the files under out/: `OUTPUTS`, an entry for each stage of dvc.yaml.

dvc.yaml says which stage writes which folder; this table says which files are in it, and what their columns
and keys are. `stages.reporting.reference` makes docs/files.md of both; tests compare it with a finished run.
"""

from fnmatch import fnmatchcase

from classifiers.elsewhere.cards import ModuleCard
from classifiers.networks.cards import JudgeCard, RunCard
from stages.reporting.described_files import COMMON, NETWORK, File
from stages.reporting.outputs_of_data import DATA_OUTPUTS
from stages.reporting.recommendation import CellFigures, Recommendation
from stages.shared.costs import Cost
from stages.shared.datasheet import Summary
from stages.shared.judge_metrics import JudgeMetrics
from stages.shared.quality import Quality

OUTPUTS: dict[str, tuple[str, tuple[File, ...]]] = {
    **DATA_OUTPUTS,
    "train_judge": (
        "A judge of an attribute: a network that labels nothing.",
        (
            NETWORK,
            File("card.json", "How it is made.", schemas={"": JudgeCard}),
            File(
                "metrics.json",
                "Its figures on the real test images.",
                {
                    "images": "that it was trained on; 0 where the source has none",
                    "real_test": "`accuracy`, `balanced_accuracy`, `worst_group_accuracy`, "
                    "`group_accuracies`, `group_n`",
                    "measured": "true if it is no network: the attribute is computed from the pixels",
                },
                {"": JudgeMetrics},
            ),
        ),
    ),
    "assess": (
        "How good the synthetic images are.",
        (
            File(
                "quality.json",
                "Distances, the probe, and what judges find.",
                {
                    "groups": "their names",
                    "distances": "of each set from a reference of as many `images`: `fid`, or null without "
                    "Inception; `classifier_frechet_distance` by attribute",
                    "probe": "source → `auc` of telling its images from real ones, in all and by group",
                    "judge": "`real_test`, how good the judges are; `complements`, which attributes changed "
                    "as asked; `labels`, how many labels are wrong in each group; `sources`; `measured`, "
                    "the attributes that are computed from pixels",
                    "judge_absent": "why there is no judge, or null",
                },
                {"": Quality},
            ),
            File(
                "judged.parquet",
                "What judges say of every synthetic image.",
                {"id, source": "of the image", "NAME": "of each attribute: 0 or 1"},
            ),
        ),
    ),
    "train_real": (
        "A classifier trained on real images alone (DATA is original, duplicated or oracle).",
        (
            NETWORK,
            File("card.json", "What it is.", schemas={"": RunCard}),
            File(
                "predictions.parquet",
                "Scores of every validation and test image.",
                {
                    "id, split": "of the image",
                    "selection": "which weights: those with the best worst_group_accuracy, or accuracy",
                    "target": "the true label",
                    "NAME": "of each protected attribute: the true value",
                    "score": "P(target = 1)",
                },
            ),
            File(
                "history.csv",
                "The training.",
                {
                    "step, loss": "how far it was; the mean loss since the last row",
                    "separation": "how far apart the classes are held, −1 to 1",
                    "worst_group_accuracy, accuracy": "on validation",
                    "others": "what the method reports: of Group DRO `q_K`, the weight of each group; of an "
                    "adversary `adversary_loss`, and `adversary_bound`, the entropy of what it guesses; of "
                    "OccamNets `exit_J_accuracy`",
                },
            ),
            File("cost.json", "What the training cost, in images.", schemas={"": Cost}),
        ),
    ),
    "train_balanced": (
        "A classifier trained on data with synthetic images (DATA is sampled or augmented); the files are "
        "those of `train_real`.",
        (),
    ),
    "finish_real": (
        "A network of `train_real` that a finish has changed, with half of the validation images.",
        (
            NETWORK,
            File("card.json", "What it is.", schemas={"": RunCard}),
            File(
                "predictions.parquet",
                "Scores of the other half of the validation images and of every test image; the columns are "
                "those of `train_real`, the selection is worst_group_accuracy.",
            ),
            File("cost.json", "What the training and the finish cost, in images.", schemas={"": Cost}),
        ),
    ),
    "load_classifier": (
        "A classifier that was trained elsewhere, as `train_real` would have written it.",
        (
            File("network.safetensors", "The weights; of a module of the user's own, with one logit."),
            File(
                "card.json",
                "What it is: of a module of the user's own these entries, of a network of zprime's those of "
                "`train_real`.",
                schemas={"": ModuleCard},
            ),
            File(
                "predictions.parquet",
                "Scores of every validation and test image; the columns are those of `train_real`, the "
                "selection is worst_group_accuracy.",
            ),
            File("cost.json", "0 and 0: nothing was trained here.", schemas={"": Cost}),
        ),
    ),
    "finish_elsewhere": (
        "A network of `load_classifier` that a finish has changed; the files are those of `finish_real`.",
        (),
    ),
    "finish_balanced": (
        "A network of `train_balanced` that a finish has changed; the files are those of `finish_real`.",
        (),
    ),
    "evaluate": (
        "Every metric of every run, and the verdict.",
        (
            File(
                "runs.parquet",
                "A row for each run and selection of weights.",
                {
                    "data, recipe, seed, selection": "which run; RECIPE+NAME: finished, or post-processed "
                    "by NAME, which has no validation_METRIC",
                    "needs": "the protected labels that the recipe needs: training, validation, prediction",
                    "images_forward, images_backward": "what its training cost, as in cost.json",
                    "threshold": "at which as many positives are predicted on validation as there are",
                    "METRIC": "of test; also METRIC_bootstrap_median and METRIC_bootstrap_std. Names that "
                    "end in _count_matched are at that threshold",
                    "validation_METRIC": "of validation",
                    "group_K_n": "the test images of each group",
                },
            ),
            File(
                "summary.csv",
                "A row for each data set and recipe.",
                {
                    "data, recipe, run, chosen": "which, and whether validation chooses it",
                    "others": "mean and std of metrics",
                },
            ),
            File("choices.csv", "The rows of summary.csv that validation chooses."),
            File(
                "data.json",
                "Data set → how balanced it is.",
                {
                    "images, group_counts": "how many there are",
                    "kl_joint, kl_uniform, kl_target, kl_protected": "divergences from independence, and "
                    "from equal shares",
                },
                {"": Summary},
            ),
            File(
                "datasheet.json",
                "The datasheet of out/balanced, with the verdict before it.",
                {"verdict": "one sentence", "others": "as in out/balanced/datasheet.json"},
            ),
            File(
                "plateaus.json", "Runs that learned nothing, and are left out.", {"runs": "with a sentence"}
            ),
            File("recommendation.json", "The verdict.", schemas={"": Recommendation, "cells.": CellFigures}),
        ),
    ),
    "report": (
        "The report.",
        (
            File("index.html", "One self-contained page."),
            File("pairs.png", "Pairs of z and z′."),
            File("plots/*/*.csv", "What `dvc plots show` draws."),
        ),
    ),
    "export": (
        "The balanced data in a format that others read; [exports.md](exports.md) has the formats.",
        (),
    ),
}

# Outputs that are files, not folders.
METRICS = File(
    "metrics.json",
    "The figures to compare runs by: `dvc metrics show`, `dvc exp diff`.",
    {
        "DATA": "of each data set: `data` (as in data.json), and RECIPE → METRIC → `mean`, `std` over the "
        "seeds (of one seed the bootstrap's)",
        "gap": "`erm_on_original`, `erm_on_oracle`, and the `size` of the gap between them",
        "choices": "of each data set the recipe that validation chooses, with its figures",
        "recommendation": "what is recommended, and its `regret`: by how much another is better on test",
        "test": "`group_K_n`: the test images of each group",
    },
)


# Stages that write the same files as another: other entries of dvc.yaml with the same module.
SAME = {
    "synthesize_inverted": "synthesize",
    "label_inverted": "label",
    "complement_inverted": "complement",
    "train_balanced": "train_real",
    "finish_balanced": "finish_real",
    "finish_elsewhere": "finish_real",
}


def described(stage: str, name: str) -> File | None:
    """Find the description of a file of a stage's output.

    Args:
        stage: a key of `OUTPUTS`.
        name: the file's path in the output's folder.

    Returns:
        the description; None if there is none.
    """
    files = OUTPUTS[SAME.get(stage, stage)][1]
    return next((file for file in (*files, *COMMON) if fnmatchcase(name, file.name)), None)
