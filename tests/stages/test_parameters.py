"""params.yaml: presets are valid, mistakes are named in one sentence, presets never overwrite edits."""

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from classifiers.training.method_settings import Recipe
from data.sources import source_of
from generators.training.parameters import TrainGAN
from pipeline.errors import UserError
from stages.parameters import AllParameters, checked_parameters, read_parameters
from stages.shared.paths import PRESETS
from stages.shared.presets import preset_names, preset_text, preset_values
from zprime import preset

ROOT = Path(__file__).parents[2]
NAMES = preset_names(ROOT / PRESETS)
AVATARS = preset_values("scratch", ROOT / PRESETS)  # avatars, and their GAN trained
OPTIONAL = {"split_values"}  # of a source: what a preset may leave out
ZOO = {"name": "gan_zoo", "path": "a.pth", "sha256": "0" * 64}


def changed(changes: dict[str, object]) -> dict:
    """The preset with other values: dotted place -> value; `...` takes the key away."""
    content = copy.deepcopy(AVATARS)
    for place, value in changes.items():
        *sections, key = place.split(".")
        section = content
        for name in sections:
            section = section[name]
        if value is ...:
            del section[key]
        else:
            section[key] = value
    return content


def read(tmp_path: Path, changes: dict[str, object]) -> AllParameters:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(changed(changes)))
    return read_parameters(path)


def complaint(tmp_path: Path, changes: dict[str, object]) -> str:
    """What is said of the preset with these changes: one sentence that begins with the file."""
    with pytest.raises(UserError) as raised:
        read(tmp_path, changes)
    message = str(raised.value)
    assert message.startswith(f"{tmp_path / 'params.yaml'}: ")
    assert "\n" not in message
    assert "pydantic" not in message
    return message.removeprefix(f"{tmp_path / 'params.yaml'}: ")


def missing_in(content: object, section: object, place: str) -> list[str]:
    """The parameters of a section, at any depth, that a file leaves to their defaults; not those of recipes.

    A recipe has the parameters that make it one.
    """
    if not isinstance(section, BaseModel) or isinstance(section, Recipe):
        return []
    assert isinstance(content, dict), place
    fields = {name: f"{place}.{name}" for name in type(section).model_fields}
    missing = [path for name, path in fields.items() if name not in content]
    return missing + [
        path
        for name, value in section
        if name in content
        for path in missing_in(content[name], value, fields[name])
    ]


# What is valid


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_is_valid_and_complete(name):
    """Complete: what a preset leaves to a default would change when the default does."""
    content = preset_values(name, ROOT / PRESETS)
    parameters = checked_parameters(content, name)
    assert set(content) == set(AllParameters.model_fields)
    assert (content["load_gan"] is not None) == (content["generator"] == "load_gan")
    source = content["prepare"]["source"]
    assert set(source) == {f.alias or n for n, f in type(source_of(source)).model_fields.items()} - OPTIONAL
    for name, section in parameters:
        assert missing_in(content.get(name), section, name) == []


def differing(default: object, wanted: object, place: str) -> list[str]:
    """The places below `place` where a default is not what is wanted."""
    if isinstance(default, BaseModel) and isinstance(wanted, BaseModel):
        of = [differing(getattr(default, name), value, f"{place}.{name}") for name, value in wanted]
        return [found for places in of for found in places]
    return [] if default == wanted else [place]


def differing_defaults(section: BaseModel, place: str) -> set[str]:
    """The places of a section of the base, at any depth, whose schema has another default than the base."""
    found: set[str] = set()
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if not field.is_required():
            found |= set(differing(field.get_default(call_default_factory=True), value, f"{place}.{name}"))
        if isinstance(value, BaseModel):
            found |= differing_defaults(value, f"{place}.{name}")
    return found


def test_a_default_of_the_schema_is_the_value_of_the_base():
    """But for load_gan, which is left out where a generator is trained."""
    base = checked_parameters(preset_values("avatars", ROOT / PRESETS), "base")
    assert differing_defaults(base, "") == {".load_gan"}
    content = preset_values("avatars", ROOT / PRESETS)
    content["sample"]["pair"] += 1
    assert ".sample.pair" in differing_defaults(checked_parameters(content, "changed"), "")


def test_schemas_import_neither_torch_nor_pandas():
    """Every stage, every command and every worker reads them first."""
    code = "import sys, stages.parameters; print({'torch', 'pandas', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_generator_comes_from_the_stage_that_is_named():
    """dvc.yaml runs stages/GENERATOR.py."""
    loading = {n for n in NAMES if preset_values(n, ROOT / PRESETS)["generator"] == "load_gan"}
    assert loading == {"avatars", "pretrained"}
    for name in ("load_gan", "train_gan"):
        assert (ROOT / "stages" / f"{name}.py").is_file()


def test_a_generator_that_is_loaded_has_a_resolution_of_its_own(tmp_path):
    changes = {"generator": "load_gan", "load_gan": ZOO, "prepare.resolution": 128}
    parameters = read(tmp_path, changes)
    assert parameters.load_gan.network == "avgG"
    assert parameters.load_gan.path == Path("a.pth")


def test_params_yaml_is_valid():
    assert len(read_parameters(ROOT / "params.yaml").attributes) == 2


def test_values_are_read_as_they_stand(tmp_path):
    parameters = read(tmp_path, {"train_gan.learning_rate": 0.002, "attributes": ["Smiling", "Young"]})
    assert parameters.train_gan.learning_rate == 0.002
    assert parameters.train_gan.channels == AVATARS["train_gan"]["channels"]
    assert (parameters.target, parameters.protected, parameters.n_protected) == ("Smiling", ["Young"], 2)
    three = read(tmp_path, {"attributes": ["Smiling", "Young", "Male", "Bald"]})
    assert (three.target, three.protected, three.n_protected) == ("Smiling", ["Young", "Male", "Bald"], 8)


def test_numbers_in_scientific_notation_are_numbers(tmp_path):
    """YAML 1.1 takes 1e-4, without a dot, for a string."""
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(changed({"train_attribute.weight_decay": "HERE"})).replace("HERE", "1e-4"))
    assert read_parameters(path).train_attribute.weight_decay == 1e-4


def test_the_data_of_the_matrix_are_in_the_tables_order(tmp_path):
    assert read(tmp_path, {"train.real_data": ["oracle", "original"]}).train.data == [
        "original",
        "sampled",
        "augmented",
        "oracle",
    ]
    alone = {"train.real_data": [], "train.balanced_data": ["augmented"]}
    assert read(tmp_path, alone).train.data == ["augmented"]
    assert read(tmp_path, alone | {"train.balanced_data": ["augmented"]}).train.data == ["augmented"]


def test_a_share_of_real_images_is_of_whole_ones(tmp_path):
    """A batch of 128 has room for 1 of 128, and none for a 300th or for all but that."""
    for share, is_allowed in ((1 / 128, True), (1 / 300, False), (127 / 128, True), (299 / 300, False)):
        changes = {"train.definitions.half_real.real_share": share}
        if is_allowed:
            assert read(tmp_path, changes).train.definitions["half_real"].real_share == share
        else:
            assert "half_real.real_share" in complaint(tmp_path, changes)
            assert "a batch of 128 leaves no real, or no synthetic, image" in complaint(tmp_path, changes)


def test_a_recipe_that_names_the_common_backbone_keeps_its_pretrained_weights(tmp_path):
    pretrained = {"name": "resnet18", "weights": "w.pth", "sha256": "0" * 64}
    changes = {"train.backbone": pretrained, "train.definitions.erm.backbone": "resnet18"}
    train = read(tmp_path, changes).train
    assert train.backbone_of("erm") == train.backbone_of("group_dro") == train.backbone
    assert train.backbone_of("occam").weights is None


def test_parameters_cannot_be_changed_after_reading(tmp_path):
    with pytest.raises(ValueError, match="frozen"):
        read(tmp_path, {}).train_gan.seed = 5


# What is not


ERM = {"method": {"name": "erm"}}
MISTAKES: list[tuple[dict[str, object], list[str]]] = [
    ({"sample.fitt": 3}, ["sample.fitt is not a parameter", "spelling"]),
    ({"smaple": {"fit": 3}}, ["smaple is not a parameter"]),
    ({"train.definitions.erm.eta": 1}, ["train.definitions.erm.eta is not a parameter"]),
    ({"evaluate": ...}, ["evaluate is missing"]),
    ({"prepare.source": ...}, ["prepare.source is missing"]),
    ({"train_attribute.steps": "many"}, ["train_attribute.steps (it is 'many')", "integer"]),
    ({"train_attribute.steps": 1.5}, ["train_attribute.steps (it is 1.5)", "integer"]),
    ({"train_attribute.steps": None}, ["train_attribute.steps (it is None)", "integer"]),
    ({"train_attribute.steps": 0}, ["train_attribute.steps (it is 0)", "greater than or equal to 1"]),
    ({"train_gan.flip": "perhaps"}, ["train_gan.flip (it is 'perhaps')", "boolean"]),
    ({"train_gan": [1, 2]}, ["train_gan: "]),
    (
        {"complement.variant": "mirror"},
        ["complement.variant (it is 'mirror')", "'complement'", "'perpendicular'"],
    ),
    ({"train_gan.loss": "hinge"}, ["train_gan.loss (it is 'hinge')", "'wgan_gp'", "'relativistic'"]),
    ({"train.definitions.erm.method": {"name": "jtt"}}, ["train.definitions.erm.method", "'group_dro'"]),
    ({"train.balanced_data": ["sampled"]}, ["train.balanced_data", "augmented has to be one of them"]),
    ({"train.real_data": ["sampled"]}, ["train.real_data", "'duplicated'"]),
    (
        {"train.definitions.half_real.phases": {"name": "pretrain", "share": 0.5}},
        ["definitions.half_real", "use one"],
    ),
    ({"train.definitions.half_real.real_share": 1}, ["half_real.real_share (it is 1)", "less than 1"]),
    ({"train.definitions.pretrained.phases.share": 1}, ["phases.share (it is 1)", "less than 1"]),
    (
        {"train.definitions.occam.backbone": "resnet18"},
        ["definitions.occam: ", "resnet18 has none"],
    ),
    ({"train.definitions.occam.backbone": None}, ["definitions.occam: ", "small has none"]),
    ({"train_attribute.selection": "f1"}, ["train_attribute.selection (it is 'f1')", "'worst_group_acc"]),
    ({"train.recipes": ["erm", "twice"]}, ["train: ", "recipe 'twice' is not defined"]),
    ({"attributes": ["Male"]}, ["attributes: ", "name different attributes: the target, then one protected"]),
    ({"attributes": ["Male", "Young", "Male"]}, ["attributes: ", "name different attributes"]),
    ({"complement.refine.steps": -1}, ["complement.refine.steps (it is -1)"]),
    ({"complement.per_group": 0}, ["complement.per_group (it is 0)"]),
    ({"train_gan.group_balance": 1.1}, ["train_gan.group_balance (it is 1.1)", "less than or equal to 1"]),
    ({"load_gan": {"name": "zprime", "path": "g.safetensors"}}, ["load_gan.sha256 is missing"]),
    ({"balance.sources": ["real_prime"], "inverted": []}, ["balance.sources has real_prime", "set inverted"]),
    ({"train_gan.resolution": 48}, ["train_gan: ", "48 is not a power of two"]),
    ({"train_gan.resolution": 64}, ["train_gan: ", "channels has no entry for 64 px"]),
    ({"train_gan.augment.translation": 0.7}, ["train_gan.augment.translation (it is 0.7)"]),
    ({"train_gan.batch_size": {4: 0, 8: 32, 16: 32, 32: 32}}, ["train_gan.batch_size.4 (it is 0)"]),
    ({"train_gan.steps": {4: -5, 8: 600, 16: 1000, 32: 1500}}, ["train_gan.steps.4 (it is -5)"]),
    ({"train_gan.channels": {4: 128, 8: 128, 16: 64, 32: 0}}, ["train_gan.channels.32 (it is 0)"]),
    ({"train.seeds": []}, ["train.seeds"]),
    ({"train.recipes": []}, ["train.recipes"]),
    ({"train.recipes": ["erm", "erm"]}, ["train.recipes", "'erm' is named twice"]),
    ({"train.seeds": [0, -1]}, ["train.seeds.1 (it is -1)", "greater than or equal to 0"]),
    ({"train.seeds": [0, 1, 0]}, ["train.seeds", "0 is named twice"]),
    ({"finish.names": ["dfr", "dfr"]}, ["finish.names", "'dfr' is named twice"]),
    ({"evaluate.postprocess_recipes": ["erm", "erm"]}, ["postprocess_recipes", "'erm' is named twice"]),
    ({"train.definitions": {"a+b": ERM}}, ["train.definitions", "'a+b'", "letters, digits"]),
    ({"train.definitions": {"../erm": ERM}}, ["train.definitions", "'../erm'", "letters, digits"]),
    ({"finish.definitions": {"a/b": {"name": "smote"}}}, ["finish.definitions", "'a/b'", "letters, digits"]),
    (
        {"finish.definitions": {"reject_option": {"name": "smote"}}},
        ["finish.definitions", "RECIPE+reject_option would be both"],
    ),
    (
        {"train.recipes": ["occam"], "finish.recipes": ["occam"], "finish.names": ["dfr"]},
        ["finish.recipes has 'occam'", "two exits"],
    ),
    (
        {"train.definitions.erm.group_by": "group_and_source"},
        ["definitions.erm: group_by group_and_source is without effect", "erm nor the sampler uniform"],
    ),
    (
        {"train.definitions.pseudo_groups_balanced.sampler": "class_balanced"},
        ["definitions.pseudo_groups_balanced: phases pseudo_groups is without effect"],
    ),
    (
        {"train.definitions.reweighing.sampler": "group_balanced"},
        ["definitions.reweighing: ", "weighted", "group_balanced", "use one"],
    ),
    ({"finish.names": ["dfr", "dfrr"]}, ["finish: ", "'dfrr' is not defined"]),
    ({"finish.names": ["dfr"], "finish.recipes": ["half_real"]}, ["finish.recipes has 'half_real'"]),
    ({"finish.definitions.afr.name": "far"}, ["finish.definitions.afr.name (it is 'far')", "'smote'"]),
    (
        {"finish.definitions.layerwise.margin": 0.05},
        ["finish.definitions.layerwise", "margin 0.05", "less than epsilon 0.05"],
    ),
    ({"finish.definitions.afr.steps": 0}, ["finish.definitions.afr.steps (it is 0)"]),
    ({"prepare.resolution": 64}, ["train_gan.resolution is 32 px and prepare.resolution 64 px"]),
    ({"generator": "stylegan"}, ["generator (it is 'stylegan')", "'train_gan'", "'load_gan'"]),
    ({"generator": "load_gan"}, ["generator is load_gan, but there is no section load_gan", "pretrained"]),
    ({"load_gan": ZOO | {"path": None}}, ["load_gan.path (it is None)"]),
    ({"load_gan": {"name": "torchscript", "path": "a.pt"}}, ["load_gan.sha256 is missing"]),
    ({"load_gan": {"name": "exported"}}, ["load_gan.path is missing"]),
    ({"load_gan": {"name": "factory"}}, ["load_gan.factory is missing"]),
    ({"load_gan": {"name": "factory", "factory": "os.system"}}, ["load_gan.factory (it is 'os.system')"]),
    ({"load_gan": ZOO | {"sha256": "0"}}, ["load_gan.sha256 (it is '0')"]),
    ({"load_gan": ZOO | {"network": "netD"}}, ["load_gan.network (it is 'netD')", "'avgG' or 'netG'"]),
    ({"load_gan": ZOO | {"name": "pickle"}}, ["load_gan.name (it is 'pickle')", "'zprime', 'gan_zoo'"]),
    ({"load_gan": {"kind": "zprime", "path": "g"}}, ["load_gan.name is missing"]),
    ({"load_gan": ZOO | {"latent_dim": 4}}, ["load_gan.latent_dim is not a parameter"]),
    ({"train_attribute.backbone": {"name": "resnet18", "weights": "w.pth"}}, ["sha256"]),
    ({"train_attribute.backbone.width": 4}, ["train_attribute.backbone.width (it is 4)", "equal to 8"]),
    ({"train_attribute.backbone": {"name": "small", "weights": "w.pth", "sha256": "0"}}, ["resnet18"]),
]


@pytest.mark.parametrize(
    ("changes", "parts"),
    MISTAKES,
    ids=[f"{k}-{'-'.join(changes)}" for k, (changes, _) in enumerate(MISTAKES)],
)
def test_a_mistake_is_one_sentence_that_names_the_place(changes, parts, tmp_path):
    message = complaint(tmp_path, changes)
    for part in parts:
        assert part in message


@pytest.mark.parametrize("key", ["steps", "batch_size", "channels"])
@pytest.mark.parametrize("size", [4, 16, 32])
def test_a_resolution_that_is_missing_is_named(key, size, tmp_path):
    values = {r: value for r, value in AVATARS["train_gan"][key].items() if r != size}
    assert f"{key} has no entry for {size} px" in complaint(tmp_path, {f"train_gan.{key}": values})


def test_fixed_resolution_needs_steps_and_batches_of_that_resolution_only():
    fixed = {**AVATARS["train_gan"], "growing": False, "resolution": 16}
    fixed |= {"steps": {16: 5}, "batch_size": {16: 4}}
    assert TrainGAN.model_validate(fixed).steps == {16: 5}
    with pytest.raises(ValueError, match="steps has no entry for 16 px"):
        TrainGAN.model_validate(fixed | {"steps": {32: 5}})


@pytest.mark.parametrize(("interval", "r2"), [(16, False), (1, True)])
def test_wgan_gp_takes_its_penalty_at_every_step(interval, r2, tmp_path):
    changes = {"train_gan.loss": "wgan_gp", "train_gan.gradient_penalty": 10.0}
    assert read(tmp_path, changes | {"train_gan.penalty_interval": 1}).train_gan.loss == "wgan_gp"
    refused = changes | {"train_gan.penalty_interval": interval, "train_gan.r2": r2}
    message = complaint(tmp_path, refused)
    assert "wgan_gp takes its penalty every step: penalty_interval 1, r2 false" in message


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"attributes: [Blond_Hair", "is not YAML"),
        (b"a: b: c", "is not YAML"),
        (b"a:\n\t- tab", "is not YAML"),
        (b"attributes: [M\xfcnnlich, \xff]\n", "is not YAML"),
        (b"", "should hold one section per stage"),
        (b"- 1\n- 2\n", "should hold one section per stage"),
        (b"just a sentence", "should hold one section per stage"),
    ],
    ids=["open_bracket", "two_colons", "tab", "latin_1", "empty", "list", "text"],
)
def test_a_file_that_is_no_table_of_sections_is_refused(content, sentence, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as raised:
        read_parameters(path)
    assert str(raised.value).startswith(f"{path} {sentence}")
    assert "\n" not in str(raised.value)


def test_yaml_cannot_make_objects(tmp_path):
    path, trace = tmp_path / "params.yaml", tmp_path / "trace"
    path.write_text(f"attributes: !!python/object/apply:os.mkdir ['{trace}']\n")
    with pytest.raises(UserError, match="is not YAML"):
        read_parameters(path)
    assert not trace.exists()


def test_a_missing_file_is_named_with_the_command_that_writes_it(tmp_path):
    with pytest.raises(UserError, match=r"params\.yaml is missing: `make repro PRESET=avatars` writes one"):
        read_parameters(tmp_path / "params.yaml")


# Presets


def git(*arguments: str) -> None:
    """Git as it is on a machine without any configuration of its own."""
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    identity = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, env=environment)


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A git repository with two presets, and the first of them committed as params.yaml."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "presets").mkdir()
    shutil.copy(ROOT / PRESETS / "base.yaml", tmp_path / PRESETS)
    for name, seed in (("first", 1), ("second", 2)):
        (tmp_path / PRESETS / f"{name}.yaml").write_text(f"sample: {{seed: {seed}}}\n")
    preset.main("first")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "start")
    return tmp_path


def seed_in(project: Path) -> int:
    return read_parameters(project / "params.yaml").sample.seed


def test_a_preset_becomes_params_yaml(project):
    assert seed_in(project) == 1
    preset.main("second")
    assert seed_in(project) == 2
    assert (project / "params.yaml").read_text() == preset_text("second", project / PRESETS)


def test_edits_that_are_not_committed_are_kept(project):
    edited = yaml.safe_dump(changed({"sample.seed": 77}))
    (project / "params.yaml").write_text(edited)
    with pytest.raises(UserError, match=r"params\.yaml has edits that are not committed.*PRESET=second"):
        preset.main("second")
    assert (project / "params.yaml").read_text() == edited


def test_edits_that_are_staged_only_are_kept(project):
    (project / "params.yaml").write_text(yaml.safe_dump(changed({"sample.seed": 77})))
    git("add", "params.yaml")
    with pytest.raises(UserError, match="not committed"):
        preset.main("second")
    assert seed_in(project) == 77


def test_committed_edits_can_be_had_again_and_give_way(project):
    (project / "params.yaml").write_text(yaml.safe_dump(changed({"sample.seed": 77})))
    git("commit", "--quiet", "-a", "-m", "edit")
    preset.main("second")
    assert seed_in(project) == 2


def test_another_preset_gives_way_without_a_commit(project):
    preset.main("second")
    preset.main("first")
    assert seed_in(project) == 1


def test_edits_without_a_git_repository_are_kept(project, monkeypatch):
    (project / "params.yaml").write_text(yaml.safe_dump(changed({"sample.seed": 77})))
    (project / ".git").rename(project / "no_git")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.parent))
    with pytest.raises(UserError, match="not committed"):
        preset.main("second")
    assert seed_in(project) == 77


def test_an_unknown_preset_is_named_beside_the_known_ones(project):
    with pytest.raises(UserError, match=r"no preset 'third': presets/ has first, second"):
        preset.main("third")


def test_a_broken_preset_leaves_params_yaml_as_it_is(project):
    (project / "presets" / "second.yaml").write_text("sample: {fit: 1}\n")
    with pytest.raises(UserError, match=r"second\.yaml"):
        preset.main("second")
    assert seed_in(project) == 1


@pytest.mark.parametrize("variant", ["on_hyperplane", "perpendicular_on_hyperplane"])
def test_what_lies_on_the_hyperplane_inherits_no_label(variant, tmp_path):
    message = complaint(tmp_path, {"complement.variant": variant, "balance.gates.agreement": "none"})
    assert "balance.label inherited would invent it: use rescored, or keep what the classifiers" in message
    for allowed in ({"label": "rescored"}, {"gates.agreement": "protected"}, {"gates.agreement": "both"}):
        changes = {f"balance.{place}": value for place, value in allowed.items()}
        assert read(tmp_path, changes | {"complement.variant": variant}).complement.variant == variant
    unconfirmed = {"complement.variant": variant, "balance.gates.agreement": "target"}
    assert "would invent it" in complaint(tmp_path, unconfirmed)
    rounded = {"complement.variant": variant, "balance.label": "rescored", "balance.gates.hyperplane": "both"}
    assert "gates.hyperplane would keep what rounding decides" in complaint(tmp_path, rounded)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sources": []}, "balance.sources: name each source once, and at least one."),
        ({"sources": ["z_prime", "z_prime"]}, "balance.sources: name each source once, and at least one."),
        ({"sources": ["z"]}, "balance.sources: z goes with z_prime: z alone, without complements, is the "),
        ({"sources": ["z", "real_prime"]}, "balance.sources: z goes with z_prime"),
        ({"sources": ["real"]}, "balance.sources.0 (it is 'real'): Input should be 'z', 'z_prime' or "),
        ({"label": "agreed"}, "balance.label (it is 'agreed'): Input should be 'inherited' or 'rescored'."),
        ({"gates.confidence": 90}, "balance.gates.confidence (it is 90): Input should be less than or equal"),
        ({"gates.move_length": 0}, "balance.gates.move_length (it is 0): Input should be greater than 0."),
    ],
)
def test_a_mistake_in_balance_is_named(changes, sentence, tmp_path):
    message = complaint(tmp_path, {f"balance.{place}": value for place, value in changes.items()})
    assert message.startswith(sentence)


def test_no_more_latents_are_fitted_than_are_sampled(tmp_path):
    message = complaint(tmp_path, {"sample.fit": 300, "fit_hyperplanes.latents": 301})
    assert "fit_hyperplanes.latents is 301, but sample.fit only 300" in message
    assert read(tmp_path, {"sample.fit": 300, "fit_hyperplanes.latents": 300}).fit_hyperplanes.latents == 300


@pytest.mark.parametrize("variant", ["perpendicular", "perpendicular_on_hyperplane"])
def test_the_targets_hyperplanes_by_domain_need_a_variant_that_uses_them(variant, tmp_path):
    fit = {"fit_hyperplanes.domain_dependent": True, "balance.label": "rescored"}
    message = complaint(tmp_path, {**fit, "complement.variant": variant})
    assert f"complement.variant {variant} does not use the target's hyperplanes" in message
    for allowed in ("complement", "on_hyperplane"):
        assert read(tmp_path, {**fit, "complement.variant": allowed}).fit_hyperplanes.domain_dependent


@pytest.mark.parametrize(
    ("name", "value"),
    [("latents", 1), ("rare_share", 0.0), ("rare_share", 0.51), ("confidence", 0.49), ("confidence", 1.0)],
)
def test_ablations_of_the_fit_have_ranges(name, value, tmp_path):
    assert f"fit_hyperplanes.{name} (it is {value})" in complaint(
        tmp_path, {f"fit_hyperplanes.{name}": value}
    )
