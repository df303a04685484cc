"""Descriptions of what the stages write that make the data: from the real images to the balanced dataset."""

from classifiers.networks.cards import LabellerCard
from generators.networks.cards import GeneratorCard
from stages.reporting.described_files import NETWORK, File
from stages.shared.datasheet import Datasheet
from stages.shared.inversion import InversionMetrics
from stages.shared.moves import Moves
from stages.shared.planes import HyperplaneMetrics

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

DATA_OUTPUTS: dict[str, tuple[str, tuple[File, ...]]] = {
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
                schemas={"": LabellerCard},
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
                schemas={"": GeneratorCard},
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
}
