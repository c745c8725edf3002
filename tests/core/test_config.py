from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError, model_validator

from plaudit.core.config import Config, Setting, dump_config, load_config, settings_of
from plaudit.core.errors import ConfigError
from plaudit.core.yaml12 import inline_yaml, parse_scalar, parse_yaml


class Optimizer(Config):
    learning_rate: float = Field(1e-5, gt=0, description="Peak learning rate.")
    betas: tuple[float, float] = Field((0.9, 0.95), description="Decay of the two moments.")


class Lora(Config):
    rank: int = Field(8, ge=1, description="Rank of the update.")


class Recipe(Config):
    model: str = Field(description="The model to train.")
    system: str | None = Field(None, description="System message.")
    epochs: int = Field(1, ge=1, description="Passes over the data.")
    train_layers: int | Literal["all"] = Field("all", description="How many layers train.")
    shuffle: bool = Field(True, description="Whether to shuffle.")
    kl: Literal["fixed", "adaptive"] = Field("fixed", description="KL controller.")
    rewards: list[str] = Field([], description="Reward models.")
    optimizer: Optimizer = Field(Optimizer(), description="Optimizer settings.")
    lora: Lora | None = Field(None, description="LoRA, or null for full weights.")
    cache: Path | None = Field(None, description="Where to cache.")

    @model_validator(mode="after")
    def _lora_needs_all_layers(self) -> "Recipe":
        if self.lora is not None and self.train_layers != "all":
            raise ConfigError(f"train_layers={self.train_layers} does not go with lora; use train_layers=all.")
        return self


def load(*overrides: str) -> Recipe:
    return load_config(Recipe, None, ["model=m", *overrides])


def test_overrides_reach_nested_settings_and_keep_their_siblings(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("model: base\noptimizer:\n  learning_rate: 3e-4\n  betas: [0.5, 0.6]\n")
    config = load_config(Recipe, file, ["optimizer.learning_rate=1e-5", "epochs=3"])
    assert config == Recipe(model="base", epochs=3, optimizer=Optimizer(learning_rate=1e-5, betas=(0.5, 0.6)))
    assert isinstance(config.optimizer.learning_rate, float)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1E3", 1000.0),
        ("-.5", -0.5),
        ("3", 3),
        ("true", True),
        ("null", None),
        ("", None),
        # Text that YAML 1.1 would turn into a boolean, a number of minutes, a date, an octal number:
        ("no", "no"),
        ("12:30", "12:30"),
        ("2026-01-01", "2026-01-01"),
        ("0x1f", "0x1f"),
        ("- a", "- a"),
        ("key: value # no comment", "key: value # no comment"),
        ("*.jsonl", "*.jsonl"),
    ],
)
def test_scalars(text: str, value: object) -> None:
    parsed = parse_scalar(text)
    assert parsed == value
    assert type(parsed) is type(value)


def test_text_settings_keep_what_was_typed() -> None:
    assert load_config(Recipe, None, ["model=007"]).model == "007"
    assert load_config(Recipe, None, ["model=1e3"]).model == "1e3"
    assert load_config(Recipe, None, ["model=true"]).model == "true"
    assert load("system=12").system == "12"
    assert load("system=null").system is None
    assert load('system="null"').system == "null"
    assert load("system=Answer: be brief, a=b").system == "Answer: be brief, a=b"
    assert load("cache=3").cache == Path("3")
    with pytest.raises(ConfigError, match="model=null: expected text"):
        load_config(Recipe, None, ["model=null"])


def test_lists_and_optional_groups() -> None:
    assert load("rewards=[a, 'b c']").rewards == ["a", "b c"]
    assert load("lora.rank=4").lora == Lora(rank=4)
    assert load("lora=null").lora is None
    assert load("train_layers=all").train_layers == "all"
    assert load("train_layers=8").train_layers == 8


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["epoch=3"],
            r"Unknown setting epoch\. Did you mean epochs\? Valid settings: model, system, epochs, .*lora.rank",
        ),
        (["learning_rat=1"], r"Unknown setting learning_rat\. Did you mean optimizer.learning_rate\?"),
        (["optimizer.lr=1"], r"Unknown setting optimizer\.lr\."),
        (["lora.r=1"], r"Unknown setting lora\.r\. Did you mean lora\.rank\?"),
        (["epochs=three"], r"epochs=three: expected integer >= 1 \("),
        (["epochs=0"], r"epochs=0: expected integer >= 1"),
        (["epochs=true"], r"epochs=true: expected integer >= 1"),
        (["optimizer.learning_rate=false"], r"optimizer.learning_rate=false: expected number > 0"),
        (["optimizer.learning_rate=.inf"], r"optimizer.learning_rate=\.inf: expected number > 0"),
        (["optimizer.betas=[1]"], r"optimizer\.betas=\[1\]: expected list of number"),
        (["kl=other"], r"kl=other: expected fixed \| adaptive"),
        (["train_layers=some"], r"train_layers=some: expected integer or all\.$"),
        (["lora=3"], r"lora=3: expected group of settings or null"),
        (["lora.rank=2", "train_layers=3"], r"^train_layers=3 does not go with lora; use train_layers=all\.$"),
        (["epochs"], r"`epochs` is no setting\. Write key=value"),
        (["=3"], r"`=3` is no setting"),
        (["epochs=1", "epochs=2"], r"epochs is given twice: epochs=1 and epochs=2"),
        (["lora=null", "lora.rank=2"], r"lora=null and lora\.rank=2 set the same thing"),
        (["system=[INST] hi"], r"system=\[INST\] hi is no valid YAML"),
    ],
)
def test_what_is_wrong_is_said_with_key_value_and_remedy(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(*overrides)


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Recipe, None, ["epochs=x", "kl=y"])
    assert [line.split("=")[0].split(" ")[0] for line in str(caught.value).splitlines()] == ["model", "epochs", "kl"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"model: a\nmodel: b\n", "'model' is given twice"),
        (b"- a\n", "no settings"),
        (b"a: [\n", "no valid YAML"),
        (b"\xff\xfe", "not UTF-8"),
        (b"model: !!python/object/apply:os.system ['true']\n", "no valid YAML"),
        (b"model: m\nepoch: 3\n", "Did you mean epochs"),
    ],
)
def test_a_bad_settings_file(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_config(Recipe, file, [])


def test_a_missing_settings_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(Recipe, tmp_path / "none.yaml", [])


def test_settings_of_lists_every_key_with_type_and_default() -> None:
    settings = {setting.key: setting for setting in settings_of(Recipe)}
    assert settings["model"] == Setting("model", "text", "required", "The model to train.")
    assert settings["train_layers"].type == "integer or all"
    assert settings["optimizer.betas"].default == "[0.9, 0.95]"
    assert settings["lora.rank"] == Setting("lora.rank", "integer >= 1", "8", "Rank of the update.")
    assert settings["lora"].default == "null"
    assert "optimizer" not in settings


def test_a_field_without_description_is_our_mistake() -> None:
    with pytest.raises(AssertionError, match=r"Bad\.depth has no description"):

        class Bad(Config):  # pyright: ignore[reportUnusedClass]
            depth: int = 1


def test_a_config_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load().epochs = 3  # pyright: ignore[reportAttributeAccessIssue]


finite = st.floats(allow_nan=False, allow_infinity=False)
recipes = st.builds(
    Recipe,
    model=st.text(),
    system=st.none() | st.text(),
    epochs=st.integers(1, 2**53),
    train_layers=st.just("all"),
    shuffle=st.booleans(),
    rewards=st.lists(st.text()),
    optimizer=st.builds(
        Optimizer, learning_rate=st.floats(0, 1e300, exclude_min=True), betas=st.tuples(finite, finite)
    ),
    lora=st.none() | st.builds(Lora, rank=st.integers(1, 99)),
)


@given(config=recipes)
def test_dumped_settings_read_back_unchanged(config: Recipe, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("config", numbered=True) / "config.yaml"
    file.write_text(dump_config(config), encoding="utf-8", newline="")
    assert load_config(Recipe, file, []) == config


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(plain)
def test_inline_yaml_is_what_one_could_type(value: Any) -> None:
    text = inline_yaml(value)
    assert "\n" not in text
    assert parse_yaml(text) == value
