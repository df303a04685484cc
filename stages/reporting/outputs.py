"""Descriptions of the files under out/: `OUTPUTS`, an entry for each stage of dvc.yaml.

dvc.yaml says which stage writes which folder; this table says which files are in it, and what their columns
and keys are. `stages.reporting.reference` makes docs/files.md of both; tests compare it with a finished run.
"""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from pydantic import BaseModel

from stages.reporting.recommendation import CellFigures, Recommendation
from stages.shared.costs import Cost
from stages.shared.datasheet import Datasheet, Summary
from stages.shared.inversion import InversionMetrics
from stages.shared.judge_metrics import JudgeMetrics
from stages.shared.moves import Moves
from stages.shared.planes import HyperplaneMetrics
from stages.shared.quality import Quality

Fields = dict[str, str]  # a column or key, or several with a comma between -> its meaning


@dataclass(frozen=True)
class File:
    """A file of a stage's output, or several whose names match one pattern.

    Attributes:
        name: its path in the output's folder; * stands for what differs. Empty if the output is a file.
        what: one sentence on what it holds.
        fields: the columns of a table, the keys of a JSON file. A name in capitals or with NAME in it stands
            for all names of its kind, such as those of the attributes.
        schemas: the typed schemas of a JSON file, by where each stands: "" for the whole file, "cells." for
            the content of the list `cells`. Their fields are added to `fields`, with their docstrings' text.
    """

    name: str
    what: str
    fields: Fields = field(default_factory=dict)
    schemas: dict[str, type[BaseModel]] = field(default_factory=dict)


TRUST = File(
    "trust.json",
    "Whether the step may be trusted.",
    {
        "judgements": "a list; of each: `step`, `level` (fine, doubtful, useless), `sentence`, `remedy` and "
        "the `figures` that decided"
    },
)
INDEX = File(
    "index.json",
    "The size and sha256 of every file: `zprime verify` compares them.",
    {
        "files": "those that belong to no shard: name → `bytes`, `sha256`",
        "shards": "of a store: `items` and `files` of each shard",
        "array, dtype, item_shape": "of a store: what the HDF5 files hold; null for a table alone",
        "made_by, work": "the stage with its arguments, and the folder in `.work/` that it was made in",
        "sha256": "of this file without this key",
    },
)
SHARDS = File(
    "shard-*.h5",
    "Of a store: the dataset `images`, uint8 [n, H, W, 3], or `latents`, float32 [n, D]; contiguous and not "
    "compressed.",
)
ROWS = File(
    "rows/shard-*.parquet",
    "Of a store: a row for each image or latent of the shard, in its order.",
    {"id": "unique", "shard, row": "where it stands in the store", "others": "are listed below"},
)
COMMON = (SHARDS, ROWS, INDEX, TRUST)  # files of several outputs, described once

LABEL_COLUMNS = {
    "id": "of the image",
    "NAME_score": "of each attribute: P(NAME = 1) by the labeller, moved to how frequent NAME is among "
    "these images (`label.prior_shift`)",
    "NAME": "of each attribute: the label, 0 or 1",
    "NAME_0, NAME_1": "of each attribute: what the checkers of either half of the real images say; with "
    "`train_attribute.checkers`",
}
COMPLEMENT_COLUMNS = {
    "id": "of the complement",
    "pair_id": "the id of its original",
    "flips": "the protected attributes that were flipped, joined by +",
    "move_length": "‖z′ − z‖",
    "flipped": "whether what the generator renders is on the other side of the flipped attributes' "
    "hyperplanes, and on the same of the others'",
    "target_stayed": "whether it is on the same side of the target's",
}
SAMPLE_COLUMNS = {
    "id": "of the latent, and of the image that is made of it",
    "part": "what it serves: fit or validation (of the hyperplanes), pair",
}
MANIFEST = {
    "id": "of the image; in the control sampled one may stand several times",
    "store": "the image store that has it, relative to the project's folder",
    "target": "the label, 0 or 1",
    "protected": "the number of the protected group: the protected attributes as binary digits, the first "
    "the highest",
    "split": "train, validation or test; synthetic images are in train alone",
    "source": "real, z, z_prime or real_prime",
    "pair_id": "what z and its complements have in common; missing for real images",
    "NAME_score": "of each attribute: the labeller's score; missing for real images",
}
NETWORK = File("network.safetensors", "The weights.")

OUTPUTS: dict[str, tuple[str, tuple[File, ...]]] = {
    "prepare": (
        "The real images, all of one size.",
        (
            File(
                "labels.parquet",
                "Every image's labels.",
                {
                    "id": "of the image",
                    "split": "train, validation or test; oracle and judge where the source has them",
                    "NAME": "of each attribute that the source has: 0 or 1; -1 where the label is missing",
                },
            ),
            File(
                "bad_images.parquet",
                "The images that were left out (`prepare.on_bad_image: skip`).",
                {"id": "of the image", "why": "one sentence"},
            ),
            File(
                "summary.json",
                "How many images there are.",
                {"images, bad_images": "in all", "groups": "split → group → images"},
            ),
        ),
    ),
    "fill_labels": (
        "The labels of the real images without a gap.",
        (
            File(
                "labels.parquet",
                "Every image's labels; missing ones are predicted.",
                {
                    "id": "of the image",
                    "split": "as in `prepare`'s table",
                    "NAME": "of each of `attributes`: 0 or 1, the more likely one where it is missing",
                    "NAME_probability": "of each protected attribute: how likely it is 1; 0 or 1 where it is "
                    "known",
                    "known": "whether no protected label of the image is predicted",
                },
            ),
        ),
    ),
    "train_attribute": (
        "The labeller of an attribute: several networks, and two checkers.",
        (
            NETWORK,
            File(
                "card.json",
                "How the labeller is made.",
                {
                    "attribute, backbone": "what it tells, with which network",
                    "halves": "of each network: null where it labels, else the half of the images that it "
                    "checks for",
                    "threshold, thresholds": "of the labeller; of the labeller, then of each half's checkers",
                    "prior, real_share": "the share of label 1 that its scores are calibrated to, and that "
                    "of the real images",
                },
            ),
            File(
                "metrics.json",
                "Its figures on the real validation images.",
                {
                    "accuracy, average_precision": "of all images",
                    "threshold": "scores from it on are label 1",
                    "group_K_accuracy, group_K_n": "of each group",
                    "checker_H_group_K_accuracy": "of each half's checkers",
                },
            ),
            File(
                "history.csv",
                "Its training.",
                {
                    "network, half, step": "which network, and how far it was",
                    "loss": "mean since the last row",
                    "separation": "how far apart the classes are held, −1 to 1",
                    "others": "what weights are selected by",
                },
            ),
        ),
    ),
    "generator": (
        "The generator, trained or loaded.",
        (
            File("generator.*", "Weights (.safetensors) or a program (.pt, .pt2); none of a factory."),
            File(
                "card.json",
                "What it is and where it comes from.",
                {
                    "kind, latent_dim, resolution, architecture": "how it is loaded",
                    "normalises_latents": "whether it divides z by its length",
                    "made_by, parameters, trained_on, source, torch, sha256": "where it comes from, as far "
                    "as that is known",
                },
            ),
            File(
                "losses.csv",
                "Of a training: its losses.",
                {"step, resolution": "where it was", "discriminator, generator": "the losses"},
            ),
            File("samples/*.png", "Images of 64 latents, none chosen: at each resolution of a training."),
        ),
    ),
    "sample": (
        "The latents z.",
        (File("rows/shard-*.parquet", "What each latent serves.", SAMPLE_COLUMNS),),
    ),
    "synthesize": (
        "The images of z and of z′, in the order of the latents.",
        (File("rows/shard-*.parquet", "The rows of the latents."),),
    ),
    "label": (
        "Scores and labels of the images of z and z′.",
        (File("rows/shard-*.parquet", "The labels of every image.", LABEL_COLUMNS),),
    ),
    "fit_hyperplanes": (
        "The hyperplane of every attribute.",
        (
            File(
                "hyperplanes.json",
                "Attribute, or target in a domain → hyperplane.",
                {"normal": "w, a unit vector [D]", "offset": "b"},
            ),
            File(
                "metrics.json",
                "How well each tells its attribute, on latents that it was not fitted on.",
                {
                    "NAME": "`balanced_accuracy` (`_on_sphere`: of what the generator renders), "
                    "`group_accuracies`, `group_n`, `latents` (fitted, by label), `positives` (their share)",
                    "angles_degrees": "between the normals of each two",
                },
                {"": HyperplaneMetrics},
            ),
        ),
    ),
    "complement": (
        "The complements z′ of the latents that are paired.",
        (
            File("rows/shard-*.parquet", "How each latent moved.", COMPLEMENT_COLUMNS),
            File(
                "metrics.json",
                "The moves of all complements.",
                {
                    "by_flips": "the same of each set of flipped attributes, with `complements`, how many "
                    "there are, and `angle_degrees`, θ",
                    "move_length_median, move_length_95th_percentile": "of ‖z′ − z‖",
                    "flipped_on_sphere": "share of those whose column `flipped` is true",
                    "condition_number": "of W, the worst domain's",
                },
                {"": Moves},
            ),
        ),
    ),
    "invert": (
        "Latents of real training images.",
        (
            File(
                "rows/shard-*.parquet",
                "How near each reconstruction is.",
                {
                    "id, real_id": "of the latent, and of the image",
                    "error, psnr": "of the pixels, of 255, and in dB",
                    "encoder_error, encoder_psnr": "the same by the encoder alone",
                },
            ),
            File(
                "metrics.json",
                "The same figures of all.",
                {
                    "real": "`images`; of `encoder` and `refined`: `error_mean`, `error_median`, "
                    "`psnr_median`",
                    "generated": "the same of the generator's own images, and `distance_median`: how far "
                    "from the true latent, as a share of what two random ones are apart",
                },
                {"": InversionMetrics},
            ),
            File("samples.png", "Images of every group, and their reconstructions below them."),
        ),
    ),
    "complement_inverted": ("Complements of these latents; the files are those of `complement`.", ()),
    "synthesize_inverted": ("The images of these complements; the files are those of `synthesize`.", ()),
    "label_inverted": ("Their scores and labels; the files are those of `label`.", ()),
    "balance": (
        "The balanced dataset.",
        (
            File("manifest.parquet", "A row for each image, real ones before synthetic ones.", MANIFEST),
            File("sampled.parquet", "The control `sampled`; its columns are the same."),
            File(
                "complements.parquet",
                "How every complement was judged.",
                {
                    "id, source, pair_id, flips, move_length": "of the complement",
                    "group": "the group that it promises, target · n_g + protected",
                    "target_kept, protected_flipped": "whether the labeller sees what it promises",
                    "hyperplane_target_kept, hyperplane_flipped": "whether the hyperplanes do",
                    "confidence": "the lowest score that a labeller gives its label",
                    "kept": "whether it passed all gates",
                },
            ),
            File(
                "datasheet.json",
                "What was added and what was dropped.",
                {
                    "attributes": "`target` and `protected`, by name",
                    "groups": "group → its attributes",
                    "before, after, synthetic, sampled": "of the training images: `images`, `group_counts`, "
                    "and the KL divergences `kl_joint`, `kl_uniform`, `kl_target`, `kl_protected`",
                    "policy, sources, label, gates, dropped, synthetic_per_real": "the parameters",
                    "cap": "`per_group`, what it `dropped`, and what it was `cut_by`",
                    "complements": "of each source: `images`, `kept`, what each gate `dropped` by group, "
                    "and shares that are as promised",
                    "target_kept, protected_flipped": "of all complements",
                },
                {"": Datasheet},
            ),
        ),
    ),
    "train_judge": (
        "A judge of an attribute: a network that labels nothing.",
        (
            NETWORK,
            File("card.json", "How it is made.", {"attribute, backbone, threshold": "as of a labeller"}),
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
            File("card.json", "What it is.", {"backbone, data, recipe, seed": "what it was trained with"}),
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
            File(
                "card.json",
                "What it is.",
                {
                    "backbone, data, seed": "of the trained network",
                    "recipe": "the trained network's, a + and the finish",
                    "finish": "what the finish chose, such as the strength of its regularisation",
                },
            ),
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
                "What it is.",
                {
                    "backbone": "of a network that zprime trained",
                    "factory, last": "of a module of the user's own: the function that makes it, and the "
                    "name of its last layer, or null",
                    "source": "the file of the weights that were brought in: its name and sha256",
                    "data, recipe, seed": "elsewhere, its name, and 0",
                },
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
