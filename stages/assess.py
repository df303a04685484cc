"""assess: synthetic images, their labels and what made them -> out/quality/: how good they are.

quality.json has Fréchet distances and a real-versus-synthetic probe of every data set and, where there are
judges, how noisy labels are, what the complements changed, and how right f and h are on synthetic images.
judged.parquet has the judges' word on every synthetic image. Nothing here serves a training or a choice.
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

SEED = 0  # of the samples that are compared, and of the probes
LEAST = 2  # images that a covariance can be taken of


@dataclass(frozen=True)
class Extractor:
    """What makes features of images: a network in evaluation mode, on the device."""

    network: nn.Module
    extract: Callable[[Tensor], Tensor]  # [n, 3, H, W] in [-1, 1] to [n, D]
    batch_size: int  # images


def sources_of(parameters: AllParameters) -> list[str]:
    """The stores of synthetic images that the parameters ask for."""
    return ["z", "z_prime", *(f"{name}_prime" for name in parameters.inverted)]


def synthetic_images(source: str, parameters: AllParameters) -> LabelledImages:
    """The images of a synthetic store, in the groups that the attribute classifiers put them in."""
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
    """Random samples of these sizes that have no image in common; each in the set's order."""
    order = generator_for(*seed).permutation(len(images))
    ends = np.cumsum(sizes)
    return [images.subset(np.sort(order[end - size : end])) for size, end in zip(sizes, ends, strict=True)]


def samples_of(parameters: AllParameters) -> tuple[dict[str, LabelledImages], dict[str, LabelledImages]]:
    """References of real images, and the sets that are compared with them: all of them as many images.

    The set "train" and the reference "train" are disjoint samples of the training images: their distance is
    what the number of images alone gives.

    Raises `UserError` where a set has too few images for a covariance.
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
    """The attribute classifiers by name, and Inception as "inception" where its weights are given."""
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
    """The features of images, [n, D]: from the file that an interrupted run has left, or computed now."""
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
            np.save(content, features.astype(np.float32))  # what they were computed in
    kept: NDArray[np.float32] = np.load(file, allow_pickle=False)
    return kept


def distances_of(
    references: dict[str, LabelledImages],
    samples: dict[str, LabelledImages],
    extractors: dict[str, Extractor],
    accelerator: Accelerator,
    work: Path,
) -> list[dict[str, Any]]:
    """A record for each reference and set, with the distance in every extractor's features."""
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
    """What a probe makes of each source's images beside real training images, by source."""
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
