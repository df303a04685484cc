"""assess: measure how good the synthetic images are; writes out/quality/.

quality.json has Fréchet distances and a real-versus-synthetic probe of every data set. If there are judges
(networks or pixel measurements that serve evaluation alone), it also has label noise, what the complements
changed, and the accuracy of the attribute classifiers f and the hyperplanes h on synthetic images.
judged.parquet has the judges' labels of every synthetic image. No training and no choice reads these files.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from classifiers.labellers import load_labeller
from classifiers.measures.fidelity import INCEPTION_BATCH, Inception, features_of, frechet_distance
from classifiers.measures.probe import probe_separation, probe_training
from classifiers.measures.trust import probe_judgement
from classifiers.networks.images import LabelledImages
from classifiers.networks.inference import EVALUATION_BATCH
from data.names import JUDGE_SPLIT, ORACLE_SPLIT
from data.sources import source_of
from pipeline.content.files import committed
from pipeline.content.groups import group_names, protected_groups
from pipeline.content.resumable import Session
from pipeline.content.seeds import derived_seed, generator_for
from pipeline.content.stores import Store
from pipeline.content.tables import join_by_id, write_table
from pipeline.content.trust import settle
from pipeline.errors import UserError
from pipeline.progress import Advance, progress
from pipeline.runtime import new_accelerator
from pipeline.stage import run_stage
from pipeline.work import work_folder
from stages.parameters import AllParameters, read_parameters
from stages.shared.controls import MANIFESTS
from stages.shared.inputs import real_images
from stages.shared.judged import judged_figures, judges_of
from stages.shared.paths import ATTRIBUTES, LABELS, QUALITY, REAL, SYNTHETIC
from stages.shared.quality import Quality
from stages.shared.training_data import training_images

SEED = 0  # of the compared samples and of the probes
LEAST = 2  # images that a covariance needs


@dataclass(frozen=True)
class Extractor:
    """Computes features of images.

    Attributes:
        network: a network in evaluation mode, on the device.
        extract: maps images [n, 3, H, W] in [-1, 1] to features [n, D].
        batch_size: images.
    """

    network: nn.Module
    extract: Callable[[Tensor], Tensor]  # [n, 3, H, W] in [-1, 1] to [n, D]
    batch_size: int  # images


def sources_of(parameters: AllParameters) -> list[str]:
    """Return the stores of synthetic images that the parameters ask for."""
    return ["z", "z_prime", *(f"{name}_prime" for name in parameters.inverted)]


def synthetic_images(source: str, parameters: AllParameters) -> LabelledImages:
    """Return the images of a synthetic store, in the groups that the attribute classifiers assign."""
    store = Store(SYNTHETIC / source)
    labels = Store(LABELS / source).rows
    table = join_by_id(store.rows[["id"]], labels[["id", *parameters.attributes]], str(LABELS / source))
    groups, _ = protected_groups(table[parameters.attributes].to_numpy(dtype=np.int64))
    return LabelledImages(
        ids=table["id"].to_numpy(dtype=object),
        read=store.read,
        targets=table[parameters.target].to_numpy(dtype=np.int64),
        groups=groups,
        synthetic=np.ones(len(table), dtype=bool),
    )


def disjoint_samples(images: LabelledImages, sizes: list[int], *seed: int | str) -> list[LabelledImages]:
    """Draw random samples of these sizes that share no image; each keeps the order of the set."""
    order = generator_for(*seed).permutation(len(images))
    ends = np.cumsum(sizes)
    return [images.subset(np.sort(order[end - size : end])) for size, end in zip(sizes, ends, strict=True)]


def samples_of(parameters: AllParameters) -> tuple[dict[str, LabelledImages], dict[str, LabelledImages]]:
    """Draw reference sets of real images and the sets to compare with them, all of the same size.

    The set "train" and the reference "train" are disjoint samples of the training images: the distance
    between them is what sampling alone causes at this number of images.

    Args:
        parameters: as params.yaml holds them.

    Returns:
        the references by name ("train", and "oracle" if it has images), and the compared sets by name.

    Raises:
        UserError: a set has too few images to estimate a covariance.
    """
    section, store = parameters.assess, Store(REAL)
    train, oracle = (real_images(parameters, split, store) for split in ("train", ORACLE_SPLIT))
    sets = {source: synthetic_images(source, parameters) for source in sources_of(parameters)}
    sets |= {data: training_images(data, SEED, parameters, store) for data in MANIFESTS}
    available = {"train": len(train) // 2, **{name: len(images) for name, images in sets.items()}}
    if len(oracle):
        available["oracle"] = len(oracle)
    fewest = min(available, key=lambda name: available[name])
    count = min(section.images, available[fewest])
    if count < LEAST:
        raise UserError(f"assess: the set {fewest!r} has too few images to compare: {available[fewest]}.")
    reference, rest = disjoint_samples(train, [count, count], SEED, "sample", "train")
    references, samples = {"train": reference}, {"train": rest}
    if len(oracle):
        (references["oracle"],) = disjoint_samples(oracle, [count], SEED, "sample", "oracle")
    for name, images in sets.items():
        (samples[name],) = disjoint_samples(images, [count], SEED, "sample", name)
    return references, samples


def extractors_of(parameters: AllParameters, accelerator: Accelerator) -> dict[str, Extractor]:
    """Return the attribute classifiers by name, and Inception as "inception" if its weights are given."""
    extractors = {}
    for name in parameters.attributes:
        classifier, _ = load_labeller(ATTRIBUTES / name)
        classifier.to(accelerator.device)
        extractors[name] = Extractor(classifier, classifier.features, EVALUATION_BATCH)
    weights = parameters.assess.inception_weights
    if weights is not None:
        inception = Inception(weights.path, weights.sha256).to(accelerator.device)
        extractors["inception"] = Extractor(inception, inception, INCEPTION_BATCH)
    return extractors


def features_kept(
    file: Path, extractor: Extractor, images: LabelledImages, accelerator: Accelerator, advance: Advance
) -> NDArray[np.floating[Any]]:
    """Return the features of images: read from the file of an interrupted run, or computed and kept there.

    Args:
        file: the .npy file.
        extractor: computes the features.
        images: n images.
        accelerator: runs the network.
        advance: counts finished images.

    Returns:
        [n, D].
    """
    if file.is_file():
        advance(len(images))
    else:
        features = features_of(
            extractor.network,
            extractor.extract,
            images.read,
            len(images),
            accelerator,
            extractor.batch_size,
            advance,
        )
        with committed(file) as temporary, temporary.open("wb") as content:
            np.save(content, features.astype(np.float32))  # the dtype that they were computed in
    kept: NDArray[np.float32] = np.load(file, allow_pickle=False)
    return kept


def distances_of(
    references: dict[str, LabelledImages],
    samples: dict[str, LabelledImages],
    extractors: dict[str, Extractor],
    accelerator: Accelerator,
    work: Path,
) -> list[dict[str, Any]]:
    """Compute the Fréchet distance of every set to every reference, in every extractor's features.

    Args:
        references: sets of real images, by name.
        samples: the sets that are compared with them, by name.
        extractors: by name; "inception" becomes the key `fid`.
        accelerator: runs the networks.
        work: the folder that keeps computed features, for a run that goes on.

    Returns:
        one record for each reference and set, as `Distance` in stages/shared/quality.py.
    """
    cells = [(reference, name) for reference in references for name in samples]
    values: dict[tuple[str, str], dict[str, float]] = {cell: {} for cell in cells}
    named = {("reference", name): images for name, images in references.items()}
    named |= {("set", name): images for name, images in samples.items()}
    total = sum(len(images) for images in named.values()) * len(extractors)
    with progress("assess distances", total, "images") as advance:
        for extractor_name, extractor in extractors.items():
            features = {}
            for (role, name), images in named.items():
                file = work / "features" / f"{extractor_name}-{role}-{name}.npy"
                features[role, name] = features_kept(file, extractor, images, accelerator, advance)
            for reference, name in cells:
                values[reference, name][extractor_name] = frechet_distance(
                    features["reference", reference], features["set", name]
                )
    return [
        {
            "reference": reference,
            "set": name,
            "fid": distances.pop("inception", None),
            "classifier_frechet_distance": distances,
        }
        for (reference, name), distances in values.items()
    ]


def probes_of(
    real: LabelledImages,
    samples: dict[str, LabelledImages],
    parameters: AllParameters,
    accelerator: Accelerator,
    work: Path,
) -> dict[str, dict[str, Any]]:
    """Train a probe for each source to tell its images from real ones.

    Args:
        real: real training images.
        samples: images of each source, as many.
        parameters: as params.yaml holds them.
        accelerator: runs the trainings.
        work: the folder that keeps the state of each training.

    Returns:
        by source, the content of `ProbeOfSource` in stages/shared/quality.py.
    """
    section, records = parameters.assess, {}
    for source in sources_of(parameters):
        session = Session(
            f"assess probe {source}",
            accelerator,
            work / f"probe-{source}.pt",
            parameters.runtime.checkpoint_seconds,
        )
        found = probe_separation(
            session,
            real,
            samples[source],
            2 * parameters.n_protected,
            probe_training(section.probe),
            derived_seed(SEED, "probe", source),
        )
        records[source] = {
            "auc": found.auc,
            "apart": found.apart,
            "images": found.images,
            "group_auc": [None if math.isnan(auc) else float(auc) for auc in found.group_auc],
            "group_real": found.group_real.tolist(),
            "group_synthetic": found.group_synthetic.tolist(),
        }
    return records


def main() -> None:
    """Measure the quality of the synthetic images."""
    parameters = read_parameters()
    sources = sources_of(parameters)
    work = work_folder("assess")
    accelerator = new_accelerator(parameters.runtime)
    references, samples = samples_of(parameters)
    extractors = extractors_of(parameters, accelerator)
    images = len(references["train"])
    distances = distances_of(references, samples, extractors, accelerator, work.folder)
    probes = probes_of(references["train"], samples, parameters, accelerator, work.folder)
    judges, absent = judges_of(parameters.attributes, source_of(parameters.prepare.source)), None
    figures, judged = None, None
    if judges:
        figures, judged = judged_figures(parameters, sources, judges, accelerator)
    else:
        absent = (
            f"{REAL} has no split {JUDGE_SPLIT!r}, so there is no judge: what synthetic images truly show is "
            "not known, and with it label noise, flip and keep rates, and the accuracy of f and h on them."
        )
        print(f"assess: {absent}")
    output = work.folder / "quality"
    content = {
        "groups": group_names(parameters.target, parameters.protected),
        "distances": {"images": images, "inception": "inception" in extractors, "sets": distances},
        "probe": probes,
        "judge": figures,
        "judge_absent": absent,
    }
    Quality.model_validate(content).write(output / "quality.json")
    if judged is not None:
        write_table(output / "judged.parquet", judged)
    judgements = [
        probe_judgement(source, record["auc"], record["apart"]) for source, record in probes.items()
    ]
    settle(judgements, output, parameters.on_useless)
    work.publish(QUALITY, output)


if __name__ == "__main__":
    run_stage(main)
