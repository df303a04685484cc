"""The schema of params.yaml: one section per stage, every key known, every value checked.

A section lists what changes the stage's output; dvc.yaml makes each stage depend on the sections it
reads. `runtime` and `cluster` say where and how fast, not what: no stage depends on them.
"""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from pipeline.errors import UserError

PARAMETERS_FILE = Path("params.yaml")
# What a classifier may be trained on, in the order of the report's tables.
DATA = ("original", "duplicated", "sampled", "augmented", "oracle")


class Parameters(BaseModel):
    """A section: unknown keys are refused, values are not changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Runtime(Parameters):
    device: str = "auto"  # auto: the GPU where there is one; or cpu, cuda, cuda:1
    precision: Literal["auto", "bf16", "fp32"] = "auto"  # auto: bf16 where the hardware computes in it
    processes: int = Field(1, ge=1)  # of a training; on GPUs one each
    checkpoint_seconds: float = Field(60.0, gt=0)  # how often a training's state is saved


class Cluster(Parameters):
    mode: Literal["inline", "local", "scheduler"] = "inline"
    workers: int | None = Field(None, ge=1)  # local: processes; null: one per GPU, or per core
    threads: int | None = Field(None, ge=1)  # of torch in each; null: local: cores / workers; else as started
    address: str | None = None  # scheduler: tcp://host:port; null: DASK_SCHEDULER_ADDRESS


class Prepare(Parameters):
    resolution: int = Field(32, ge=4, le=1024)  # px, of the square images in the store
    on_bad_image: Literal["stop", "skip"] = "stop"
    shard_size: int = Field(4096, ge=1)  # images
    source: dict[str, Any]  # `kind`, and the parameters of that source: data/sources/KIND.py


class Backbone(Parameters):
    name: Literal["small", "resnet18", "resnet50"] = "small"
    # Channels of the small network's first layer. With fewer than 8, a strided convolution of oneDNN 3.13
    # (torch 2.15) writes outside of its memory where the CPU has AVX2 and not AVX-512.
    width: int = Field(32, ge=8)
    weights: Path | None = None  # a state_dict of torchvision's network; null: random
    sha256: str | None = None  # of that file

    @model_validator(mode="after")
    def _weights_have_a_digest(self) -> "Backbone":
        if self.weights is not None and (self.sha256 is None or self.name == "small"):
            raise ValueError("weights go with resnet18 or resnet50, and need their sha256")
        return self


class Optimizer(Parameters):
    # sgd: with momentum 0.9; adam adds weight decay to the gradient, adamw takes it off the weights.
    name: Literal["sgd", "adam", "adamw"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0)
    schedule: Literal["constant", "cosine"] = "cosine"
    warm_up: float = Field(0.05, ge=0, lt=1)  # share of the steps in which the rate rises from 0, linearly


class Budget(Parameters):
    """What all classifiers that are compared have in common."""

    backbone: Backbone = Backbone()
    optimizer: Optimizer = Optimizer()
    steps: int = Field(400, ge=1)
    batch_size: int = Field(128, ge=1)  # images
    evaluations: int = Field(5, ge=1)  # on validation, evenly over the steps; the best is kept
    flip: bool = False  # mirror every other image at random: right for faces, wrong for digits and text
    # Move every image at random by up to this share of its side, down or up and to the left or right; what
    # comes in at an edge repeats the edge.
    shift: float = Field(0.0, ge=0, le=0.5)
    # What is evaluated and kept: the exponential average of the weights, in which a step counts half after
    # this share of the steps; 0: the weights as they are.
    average: float = Field(0.05, ge=0, lt=1)


class Training(Budget):
    """How one classifier is trained."""

    weight_decay: float = Field(1e-4, ge=0)
    sampler: Literal["uniform", "group_balanced"] = "uniform"
    seed: int = 0


class TrainAttribute(Training):
    sampler: Literal["uniform", "group_balanced"] = "group_balanced"
    # The figure on validation that the weights and the threshold are chosen by; the threshold of
    # average_precision is that of the best F1.
    selection: Literal["average_precision", "worst_group_accuracy"] = "worst_group_accuracy"
    networks: int = Field(2, ge=1)  # whose logits are averaged
    # One more network on each half of the images: what one half says of an original, the other checks on its
    # complement. They label nothing.
    checkers: bool = True


class DiffAugment(Parameters):
    translation: float = Field(0.0, ge=0, le=0.5)  # share of the image's side
    cutout: float = Field(0.0, ge=0, le=1)  # share of the image's side
    color: bool = False  # never where colour is an attribute


class TrainGAN(Parameters):
    resolution: int = Field(32, ge=4, le=256)  # px, a power of two
    growing: bool = True  # from 4 px up; false: at `resolution` from the start
    latent_dim: int = Field(64, ge=1)
    mapping_layers: int = Field(0, ge=0)  # 0: no mapping network
    mapping_width: int = Field(128, ge=1)
    channels: dict[int, PositiveInt] = {4: 128, 8: 128, 16: 64, 32: 32}  # by resolution
    loss: Literal["wgan_gp", "non_saturating", "relativistic"] = "non_saturating"
    gradient_penalty: float = Field(0.5, ge=0)  # λ of WGAN-GP, γ of R1 and R2
    penalty_interval: int = Field(16, ge=1)  # steps; WGAN-GP: 1
    r2: bool = False  # penalise the gradient at generated images too
    learning_rate: float = Field(1.5e-3, gt=0)
    batch_size: dict[int, PositiveInt] = {4: 32, 8: 32, 16: 32, 32: 32}  # images, by resolution
    steps: dict[int, PositiveInt] = {4: 1000, 8: 1000, 16: 1500, 32: 4000}  # by resolution
    fade_in: float = Field(0.35, ge=0, le=1)  # share of a resolution's steps
    ema_share: float = Field(0.05, gt=0)  # half-life, as a share of the images seen at the resolution
    ema_images: float = Field(5000.0, gt=0)  # half-life in images, at most
    # Images are drawn with weights n_g^-x, n_g the size of their group: 0 as they come, 1 every group alike.
    group_balance: float = Field(0.0, ge=0, le=1)
    flip: bool = False  # as of `Budget`
    augment: DiffAugment = DiffAugment()
    seed: int = 0

    @model_validator(mode="after")
    def _resolutions_are_complete(self) -> "TrainGAN":
        if self.resolution & (self.resolution - 1):
            raise ValueError(f"resolution {self.resolution} is not a power of two")
        needed = [4 * 2**k for k in range(self.resolution.bit_length() - 2)]
        trained = needed if self.growing else [self.resolution]
        for name, wanted in (("channels", needed), ("batch_size", trained), ("steps", trained)):
            missing = [r for r in wanted if r not in getattr(self, name)]
            if missing:
                raise ValueError(f"{name} has no entry for {missing[0]} px")
        if self.loss == "wgan_gp" and (self.penalty_interval != 1 or self.r2):
            raise ValueError("wgan_gp takes its penalty every step: penalty_interval 1, r2 false")
        return self


class LoadGAN(Parameters):
    kind: Literal["zprime", "gan_zoo", "torchscript", "exported", "factory"]
    path: Path | None = None  # the file; of zprime, out/generator/generator.safetensors with its card.json
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")  # of that file
    network: Literal["avgG", "netG"] = "avgG"  # gan_zoo: avgG is the average of the training's netG
    factory: str | None = Field(
        None, pattern=r"^[\w.]+:\w+$"
    )  # module:function; the same generator each time
    latent_dim: int | None = Field(None, ge=1)  # torchscript, factory: D of z; null: found out

    @model_validator(mode="after")
    def _the_generator_is_named(self) -> "LoadGAN":
        if self.kind == "factory" and self.factory is None:
            raise ValueError("kind factory needs factory, as in my_module:my_function")
        if self.kind != "factory" and (self.path is None or self.sha256 is None):
            raise ValueError(f"kind {self.kind} needs the path of a file and its sha256")
        return self


class Sample(Parameters):
    fit: int = Field(10000, ge=2)  # latents to fit the hyperplanes with
    validation: int = Field(5000, ge=1)  # latents to validate them with
    pair: int = Field(20000, ge=1)  # latents to complement
    seed: int = 0


class Synthesize(Parameters):
    batch_size: int = Field(256, ge=1)  # images; not in the result
    shard_size: int = Field(8192, ge=1)  # images


class Label(Parameters):
    # Move scores by how much rarer or more frequent an attribute is among synthetic images than the labeller
    # takes it to be, as they themselves say (classifiers.labellers.prior_of).
    prior_shift: bool = True
    batch_size: int = Field(512, ge=1)  # images; not in the result


class TrainEncoder(Parameters):
    """How the encoder is trained that says where the inversion of a real image starts."""

    width: int = Field(32, ge=1)  # channels of its first convolution
    steps: int = Field(2000, ge=1)
    batch_size: int = Field(32, ge=1)  # images that the generator makes
    learning_rate: float = Field(3e-3, gt=0)


class Refine(Parameters):
    """How the latent of a real image is improved."""

    steps: int = Field(60, ge=0)
    learning_rate: float = Field(0.2, gt=0)
    prior_weight: float = Field(1e-3, ge=0)  # of |z|²/D, where the generator does not normalise z


class Invert(Parameters):
    """Of `inverted`: the latents of real training images."""

    per_group: int | None = Field(500, ge=1)  # real training images of each group, at most; null: all
    encoder: TrainEncoder = TrainEncoder()
    refine: Refine = Refine()
    batch_size: int = Field(256, ge=1)  # images; not in the result
    shard_size: int = Field(512, ge=1)  # images
    seed: int = 0


class FitHyperplanes(Parameters):
    C: float = Field(1.0, gt=0)  # of the linear SVM
    # Every group of latents counts the same: else a plane leans to what goes together with its attribute.
    group_balanced: bool = True
    domain_dependent: bool = False  # the target has a hyperplane of its own in every protected group
    latents: int | None = Field(None, ge=2)  # of sample.fit, how many are used: the first; null: all
    confidence: float = Field(0.5, ge=0.5, lt=1)  # of the scores that are fitted: >= this or <= 1 - this
    rare_share: float | None = Field(None, gt=0, le=0.5)  # of an attribute's rarer label; null: as it is
    seed: int = Field(0, ge=0, lt=2**32)  # scikit-learn's range


class Refinement(Parameters):
    """Gradient steps from each linear complement: `generators.refinement`."""

    steps: int = Field(0, ge=0)  # 0: the linear complement as it is
    learning_rate: float = Field(0.05, gt=0)  # of Adam, in units of the latent space
    margin: float = Field(2.0, gt=0)  # in logits, by which classifiers are to see what is wanted
    distance: float = Field(0.3, ge=0)  # weight of the mean square of the move from the linear complement
    batch_size: int = Field(256, ge=1)  # latents; not in the result


class Complement(Parameters):
    variant: Literal["complement", "on_hyperplane", "perpendicular", "perpendicular_on_hyperplane"] = (
        "complement"
    )
    metric: Literal["euclidean", "mahalanobis"] = "euclidean"  # of the smallest move
    # Latents to pair of each group that f sees, at most: rare groups get as many pairs; null: all.
    per_group: int | None = Field(None, ge=1)
    refine: Refinement = Refinement()


class Gates(Parameters):
    """What a complement must pass to be used; see data/gates.py."""

    agreement: Literal["none", "protected", "target", "both"] = "none"  # what f must confirm of the promise
    hyperplane: Literal["none", "protected", "target", "both"] = "none"  # what h must confirm of it
    move_length: float | None = Field(None, gt=0)  # at most, as out/latents/z_prime has it; null: any
    confidence: float | None = Field(None, ge=0, le=1)  # at least, of every f in the label given; null: any
    # Of the target's f on real validation images of the original's group, at least, as the target is
    # inherited from what it says there; null: any.
    labeller_accuracy: float | None = Field(None, ge=0, le=1)


class Balance(Parameters):
    policy: Literal["pairs", "fill"] = "pairs"
    sources: list[Literal["z", "z_prime", "real_prime"]] = ["z", "z_prime"]  # of the synthetic images
    label: Literal["inherited", "rescored"] = "inherited"  # of complements
    gates: Gates = Gates()
    dropped: Literal["pair", "complement"] = "pair"  # by a gate; pair: z goes with its last complement
    # Synthetic images per real training image, at most; null: any number, as long as no marginal gets worse.
    synthetic_per_real: float | None = Field(2.0, gt=0)
    seed: int = 0

    @property
    def complements(self) -> list[str]:
        """The sources that are complements."""
        return [source for source in self.sources if source != "z"]

    @field_validator("sources")
    @classmethod
    def _they_have_complements(cls, sources: list[str]) -> list[str]:
        if len(set(sources)) < len(sources) or not sources:
            raise ValueError("name each source once, and at least one")
        if "z" in sources and "z_prime" not in sources:
            raise ValueError("z goes with z_prime: z alone, without complements, is the control `sampled`")
        return sources


class Recipe(Parameters):
    objective: Literal["erm", "group_dro"]
    sampler: Literal["uniform", "group_balanced"] = "uniform"
    weight_decay: float = Field(1e-4, ge=0)
    step_size: float = Field(0.01, gt=0)  # η of Group DRO
    adjustment: float = Field(0.0, ge=0)  # C of Group DRO's C/√n_g
    pretrain: float = Field(0.0, ge=0, lt=1)  # share of the steps, on synthetic images; then on real ones
    group_by: Literal["group", "group_and_source"] = "group"  # the source: real or synthetic
    real_share: float | None = Field(None, gt=0, lt=1)  # of real images in a batch; null: as they come
    last_layer: Literal["none", "validation"] = "none"  # refitted on one half of real validation images

    @model_validator(mode="after")
    def _batches_have_one_meaning(self) -> "Recipe":
        if self.pretrain > 0 and self.real_share is not None:
            raise ValueError("pretrain parts real and synthetic images, real_share mixes them: use one")
        return self


class Train(Budget):
    real_data: list[Literal["original", "duplicated", "oracle"]]
    balanced_data: list[Literal["sampled", "augmented"]] = ["augmented"]  # augmented is one of them
    recipes: list[str] = Field(min_length=1)
    seeds: list[int] = Field(min_length=1)
    definitions: dict[str, Recipe]

    @property
    def budget(self) -> Budget:
        return Budget(**{name: getattr(self, name) for name in Budget.model_fields})

    @property
    def data(self) -> list[str]:
        """The names of all training data, in the order of the report's tables."""
        return [name for name in DATA if name in (*self.real_data, *self.balanced_data)]

    @field_validator("balanced_data")
    @classmethod
    def _the_augmented_data_is_trained_on(cls, names: list[str]) -> list[str]:
        if "augmented" not in names:
            raise ValueError("augmented has to be one of them: it is what all others are compared with")
        return names

    @model_validator(mode="after")
    def _recipes_are_defined(self) -> "Train":
        unknown = [recipe for recipe in self.recipes if recipe not in self.definitions]
        if unknown:
            raise ValueError(f"recipe {unknown[0]!r} is not defined: train.definitions has no such key")
        return self

    @model_validator(mode="after")
    def _shares_of_a_batch_are_images(self) -> "Train":
        for name, recipe in self.definitions.items():
            share = recipe.real_share
            if share is not None and not 0 < round(share * self.batch_size) < self.batch_size:
                raise ValueError(
                    f"definitions.{name}.real_share {share} of a batch of {self.batch_size} leaves no real, "
                    "or no synthetic, image in it"
                )
        return self


class Evaluate(Parameters):
    resamples: int = Field(500, ge=1)  # of the bootstrap
    seed: int = 0


class Inception(Parameters):
    """The state_dict of pytorch-fid's Inception, a file."""

    path: Path
    sha256: str = Field(pattern="^[0-9a-f]{64}$")  # of that file


class Probe(Parameters):
    """How the classifier that is to tell real from synthetic images is trained.

    On images that are not moved: the repeated edges are alike in both kinds, and hide what is fine.
    """

    backbone: Backbone = Backbone(width=16)
    optimizer: Optimizer = Optimizer()
    weight_decay: float = Field(1e-4, ge=0)
    steps: int = Field(600, ge=1)
    batch_size: int = Field(128, ge=1)  # images
    flip: bool = False  # as of `Budget`


class Assess(Parameters):
    """How the quality of the synthetic images is measured."""

    images: int = Field(5000, ge=4)  # of every set that is compared, at most
    inception_weights: Inception | None = None  # null: no FID
    probe: Probe = Probe()
    judge: Training = Training(steps=1500)  # where the source has a split for judges
    seed: int = 0


class Export(Parameters):
    formats: list[
        Literal["hf-parquet", "webdataset", "imagefolder", "waterbirds", "celeba", "stylegan-zip"]
    ] = []
    rows: Literal["all", "real", "synthetic", "train", "validation", "test"] = "all"
    encoding: Literal["png", "jpeg"] = "png"
    quality: int = Field(95, ge=1, le=100)  # of jpeg
    images_per_file: int = Field(5000, ge=1)  # or, of formats with a file per image, per task


class AllParameters(Parameters):
    """params.yaml as a whole."""

    attributes: list[str]  # the target, then the protected attributes
    latent_space: Literal["euclidean", "sphere"] = "euclidean"  # of hyperplanes and complements
    # What a run does where a step's output is useless (pipeline/content/trust.py): no stage depends on it.
    on_useless: Literal["stop", "go_on"] = "stop"
    runtime: Runtime = Runtime()
    cluster: Cluster = Cluster()
    prepare: Prepare
    train_attribute: TrainAttribute
    generator: Literal["train_gan", "load_gan"] = "train_gan"  # the stage that makes out/generator
    train_gan: TrainGAN
    load_gan: LoadGAN | None = None
    sample: Sample
    inverted: list[Literal["real"]] = []  # beside the sampled latents, those of real training images
    invert: Invert = Invert()
    synthesize: Synthesize
    label: Label
    fit_hyperplanes: FitHyperplanes
    complement: Complement
    balance: Balance
    train: Train
    assess: Assess = Assess()
    evaluate: Evaluate
    export: Export

    @field_validator("attributes")
    @classmethod
    def _a_target_and_protected_attributes(cls, names: list[str]) -> list[str]:
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError("name different attributes: the target, then one protected attribute or more")
        return names

    @model_validator(mode="after")
    def _images_have_one_size(self) -> "AllParameters":
        if self.generator == "train_gan" and self.train_gan.resolution != self.prepare.resolution:
            raise ValueError(
                f"train_gan.resolution is {self.train_gan.resolution} px and prepare.resolution "
                f"{self.prepare.resolution} px: real and synthetic images train one classifier, so make "
                "them equal"
            )
        return self

    @model_validator(mode="after")
    def _a_generator_to_load_is_named(self) -> "AllParameters":
        if self.generator == "load_gan" and self.load_gan is None:
            raise ValueError(
                "generator is load_gan, but there is no section load_gan: presets/pretrained.yaml has one"
            )
        return self

    @model_validator(mode="after")
    def _inherited_labels_have_a_meaning(self) -> "AllParameters":
        confirmed = self.balance.gates.agreement in ("protected", "both")
        undecided = self.complement.variant.endswith("on_hyperplane")
        if undecided and self.balance.label == "inherited" and not confirmed:
            raise ValueError(
                f"complement.variant {self.complement.variant} moves z' to where the protected attribute is "
                "undecided, so that balance.label inherited would invent it: use rescored, or keep what the "
                "classifiers confirm, with balance.gates.agreement protected or both"
            )
        if undecided and self.balance.gates.hyperplane in ("protected", "both"):
            raise ValueError(
                f"complement.variant {self.complement.variant} moves z' onto the hyperplane, not across: "
                "balance.gates.hyperplane would keep what rounding decides; set it to none or target"
            )
        return self

    @model_validator(mode="after")
    def _the_metric_fits_the_space(self) -> "AllParameters":
        if self.latent_space == "sphere" and self.complement.metric != "euclidean":
            raise ValueError(
                f"complement.metric {self.complement.metric} is for latent_space euclidean: on the sphere "
                "the nearest complement is meant"
            )
        return self

    @model_validator(mode="after")
    def _real_images_are_inverted(self) -> "AllParameters":
        if "real_prime" in self.balance.sources and "real" not in self.inverted:
            raise ValueError(
                "balance.sources has real_prime, the complements of real images, but no real image is "
                "inverted: set inverted to [real]"
            )
        return self

    @model_validator(mode="after")
    def _there_are_so_many_latents_to_fit(self) -> "AllParameters":
        latents = self.fit_hyperplanes.latents
        if latents is not None and latents > self.sample.fit:
            raise ValueError(
                f"fit_hyperplanes.latents is {latents}, but sample.fit only {self.sample.fit}: it says how "
                "many of those are used"
            )
        return self

    @model_validator(mode="after")
    def _the_targets_hyperplanes_are_used(self) -> "AllParameters":
        if self.fit_hyperplanes.domain_dependent and self.complement.variant.startswith("perpendicular"):
            raise ValueError(
                f"complement.variant {self.complement.variant} does not use the target's hyperplanes, so "
                "that fit_hyperplanes.domain_dependent would be without effect: use complement or "
                "on_hyperplane, or domain_dependent false"
            )
        return self

    @property
    def target(self) -> str:
        return self.attributes[0]

    @property
    def protected(self) -> list[str]:
        return self.attributes[1:]

    @property
    def n_protected(self) -> int:
        """How many protected groups there are: of k binary attributes 2^k."""
        return int(2 ** len(self.protected))


def sentence_of(error: ValidationError, where: str) -> str:
    """A Pydantic error as one sentence: the place, what stood there, and what was expected."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{where}: {place} is not a parameter: check its spelling against presets/avatars.yaml."
    if first["type"] == "missing":
        return f"{where}: {place} is missing: presets/avatars.yaml shows a complete file."
    message = first["msg"].removeprefix("Value error, ")
    if not place:
        return f"{where}: {message}."
    given = first["input"]
    shown = f" (it is {given!r})" if isinstance(given, str | int | float | bool | type(None)) else ""
    return f"{where}: {place}{shown}: {message}."


def read_parameters(path: Path = PARAMETERS_FILE) -> AllParameters:
    """Read and check a parameter file; `UserError` says what is wrong in it, and where."""
    if not path.is_file():
        raise UserError(f"{path} is missing: `make repro PRESET=avatars` writes one.")
    try:
        content = yaml.safe_load(path.read_bytes())
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} should hold one section per stage, as presets/avatars.yaml does.")
    try:
        return AllParameters.model_validate(content)
    except ValidationError as error:
        raise UserError(sentence_of(error, str(path))) from error
