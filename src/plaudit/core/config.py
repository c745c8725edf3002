"""Settings: `key=value` arguments over an optional YAML file, checked by pydantic, with errors a person can act on."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar, Union, cast, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from plaudit.core.errors import ConfigError
from plaudit.core.yaml12 import YAMLError, dump_yaml, inline_yaml, parse_scalar, parse_yaml

C = TypeVar("C", bound="Config")
Tree = dict[str, Any]

_KEY = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*")


class Config(BaseModel):
    """Base of every recipe's settings: immutable, closed against unknown keys, each field with a description."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        for name, field in cls.model_fields.items():
            assert field.description, f"{cls.__name__}.{name} has no description; `--help` and the reference show it"

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_booleans_as_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        # pydantic reads `true` as the number 1: `epochs=true` would train one epoch instead of being an error.
        if isinstance(value, bool) and info.field_name is not None:
            kinds = set(_leaves(cls.model_fields[info.field_name].annotation))
            if kinds & {int, float} and bool not in kinds:
                raise ValueError("a number is needed, not true or false")
        return value


class Setting(NamedTuple):
    """One key of a Config as `--help` and the reference show it. `key` is dotted for nested settings."""

    key: str
    type: str
    default: str
    description: str


def load_config(cls: type[C], file: Path | None, overrides: Sequence[str]) -> C:
    """Settings from a YAML file, if any, changed by `key=value` arguments (dotted keys reach nested settings).

    Values are YAML: numbers (`1e-5` too), `true`, `null`, `[1, 2]`, `{a: 1}`, quoted text; anything else is text as it
    stands. Raises ConfigError for what is unknown, given twice or of the wrong type, all problems in one message.
    """
    tree = _read_yaml(file) if file is not None else {}
    raw = _apply(tree, overrides)
    if unknown := list(_unknown_keys(cls, tree, "")):
        raise ConfigError("\n".join(_explain_unknown(cls, key) for key in unknown))
    for _ in range(2):
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            problems = error.errors()
            if not _read_as_text(tree, raw, problems):
                raise ConfigError("\n".join(_explain_all(cls, tree, problems))) from None
    raise AssertionError("values read as text failed to be text")


def is_setting(argument: str) -> bool:
    """Whether an argument is written as `key=value`. A path such as `a/b=c.jsonl` is not: no key holds a slash."""
    key, equals, _ = argument.partition("=")
    return bool(equals) and _KEY.fullmatch(key) is not None


def dump_config(config: Config) -> str:
    """The resolved settings as YAML, every key in the order of the class; `load_config` reads it back unchanged."""
    return dump_yaml(config.model_dump(mode="json"))


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings as one mapping with dotted keys. Lists and empty mappings are values."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= {f"{key}.{inner}": leaf for inner, leaf in flatten(cast(Tree, value)).items()}
        else:
            flat[key] = value
    return flat


def settings_of(cls: type[Config]) -> list[Setting]:
    """Every key of a Config, nested ones dotted, in the order of the class."""
    settings: list[Setting] = []
    for name, field in cls.model_fields.items():
        nested = _nested(field.annotation)
        optional = NoneType in _leaves(field.annotation)
        if not nested or optional or field.is_required():
            settings.append(Setting(name, _type_name(field), _default_text(field), field.description or ""))
        for inner in nested:
            settings += [setting._replace(key=f"{name}.{setting.key}") for setting in settings_of(inner)]
    return settings


# --- reading -------------------------------------------------------------------------------------------------------


def _read_yaml(file: Path) -> Tree:
    try:
        tree = parse_yaml(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"Cannot read the settings file {file}: {error.strerror}. Give --config a YAML file."
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 (byte {error.start}). Save it as UTF-8.") from None
    except YAMLError as error:
        raise ConfigError(f"{file} is no valid YAML: {_one_line(error)}. Write one `key: value` a line.") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{file} holds {inline_yaml(tree)[:60]}, no settings. Write one `key: value` a line.")
    return cast(Tree, tree)


def _apply(tree: Tree, overrides: Sequence[str]) -> dict[str, str]:
    """Put the overrides into `tree`, in place. Returns the text of each value as it was typed."""
    raw: dict[str, str] = {}
    for override in overrides:
        key, _, text = override.partition("=")
        if not is_setting(override):
            raise ConfigError(f"`{override}` is no setting. Write key=value, for example seed=1.")
        if key in raw:
            raise ConfigError(f"{key} is given twice: {key}={raw[key]} and {key}={text}. Keep one.")
        if clash := next(
            (other for other in raw if f"{other}.".startswith(f"{key}.") or f"{key}.".startswith(f"{other}.")), None
        ):
            raise ConfigError(f"{clash}={raw[clash]} and {key}={text} set the same thing. Keep one.")
        raw[key] = text
        *folders, leaf = key.split(".")
        node = tree
        for folder in folders:
            inner = node.get(folder)
            if not isinstance(inner, dict):  # absent, or null: an optional group of settings that is now wanted
                inner = node[folder] = Tree()
            node = cast(Tree, inner)
        node[leaf] = _parse_value(key, text)
    return raw


def _parse_value(key: str, text: str) -> Any:
    # Only what announces itself as YAML is parsed as such; `system=Answer: be brief` or `data=*.jsonl` is plain text.
    if text[:1] in ("[", "{", '"', "'"):
        try:
            return parse_yaml(text)
        except YAMLError as error:
            raise ConfigError(
                f"{key}={text} is no valid YAML: {_one_line(error)}. Put plain text in '\"…\"'."
            ) from None
    return parse_scalar(text)


def _read_as_text(tree: Tree, raw: Mapping[str, str], problems: Sequence[ErrorDetails]) -> bool:
    """Settings that are text and were typed as `run=7`: put the typed text back. False if nothing was of this kind."""
    changed = False
    for problem in problems:
        key = next((key for key in raw if _location(problem)[: key.count(".") + 1] == tuple(key.split("."))), None)
        if (
            problem["type"] in ("string_type", "path_type")
            and key is not None
            and raw[key][:1] not in ("[", "{", '"', "'")
        ):
            group, _, leaf = key.rpartition(".")
            node = _value_at(tree, group) if group else tree
            if node[leaf] is not None and node[leaf] != raw[key]:
                node[leaf] = raw[key]
                changed = True
    return changed


# --- explaining ----------------------------------------------------------------------------------------------------


def _unknown_keys(cls: type[Config], tree: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, value in tree.items():
        field = cls.model_fields.get(name)
        if field is None:
            yield f"{prefix}{name}"
        elif isinstance(value, dict) and (nested := _nested(field.annotation)):
            candidates = [list(_unknown_keys(inner, cast(Tree, value), f"{prefix}{name}.")) for inner in nested]
            yield from min(candidates, key=len)


def _explain_unknown(cls: type[Config], key: str) -> str:
    valid = [setting.key for setting in settings_of(cls)]
    by_leaf = {known.rpartition(".")[2]: known for known in reversed(valid)}
    near = difflib.get_close_matches(key, valid, n=1) or [
        by_leaf[leaf] for leaf in difflib.get_close_matches(key.rpartition(".")[2], by_leaf, n=1)
    ]
    hint = f"Did you mean {near[0]}? " if near else ""
    return f"Unknown setting {key}. {hint}Valid settings: {', '.join(valid)}."


def _explain_all(cls: type[Config], tree: Tree, problems: Sequence[ErrorDetails]) -> Iterator[str]:
    """One line for each key that is wrong. A key of several types has a problem for each of them."""
    by_key: dict[str, list[ErrorDetails]] = {}
    for problem in problems:
        by_key.setdefault(_field_at(cls, problem)[1], []).append(problem)
    for key, (problem, *others) in by_key.items():
        field, _ = _field_at(cls, problem)
        cause = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "missing" and field is not None and key == ".".join(_location(problem)):
            yield f"{key} is not set: {field.description} Give {key}=…"
        elif field is None:  # a rule about several settings, whose own text names them
            yield f"{key}: {cause}" if key else cause
        else:
            value = _value_at(tree, key)
            yield f"{key}={inline_yaml(value)}: expected {_type_name(field)}{'' if others else f' ({cause})'}."


def _field_at(cls: type[Config], problem: ErrorDetails) -> tuple[FieldInfo | None, str]:
    """The innermost field a pydantic location points into, and its dotted key. Tags of unions are skipped."""
    field: FieldInfo | None = None
    key: list[str] = []
    classes = [cls]
    for part in _location(problem):
        owner = next((owner for owner in classes if part in owner.model_fields), None)
        if owner is not None:
            field = owner.model_fields[part]
            key.append(part)
            classes = _nested(field.annotation)
    ends_in_group = field is not None and bool(classes) and problem["type"] == "value_error"
    return (None if ends_in_group else field), ".".join(key)


def _value_at(tree: Tree, key: str) -> Any:
    value: Any = tree
    for part in key.split("."):
        value = value[part]
    return value


def _location(problem: ErrorDetails) -> tuple[str, ...]:
    return tuple(str(part) for part in problem["loc"])


def _leaves(annotation: Any) -> Iterator[Any]:
    """The plain types of an annotation: `int` and `NoneType` of `int | None`."""
    if get_origin(annotation) in (Union, UnionType):
        for option in get_args(annotation):
            yield from _leaves(option)
    else:
        yield annotation


def _nested(annotation: Any) -> list[type[Config]]:
    return [leaf for leaf in _leaves(annotation) if isinstance(leaf, type) and issubclass(leaf, Config)]


def _type_name(field: FieldInfo) -> str:
    bounds = ", ".join(_bounds(field.metadata))
    names = [
        f"{_leaf_name(leaf)} {bounds}" if bounds and leaf in (int, float) else _leaf_name(leaf)
        for leaf in _leaves(field.annotation)
    ]
    return " or ".join(names)


def _leaf_name(leaf: Any) -> str:
    if get_origin(leaf) is Literal:
        return " | ".join(inline_yaml(choice) for choice in get_args(leaf))
    if get_origin(leaf) in (list, tuple, set, frozenset, Sequence):
        inner = [argument for argument in get_args(leaf) if argument is not Ellipsis]
        return "list of " + " and ".join(dict.fromkeys(_leaf_name(argument) for argument in inner))
    if get_origin(leaf) in (dict, Mapping):
        return "mapping"
    names: dict[Any, str] = {
        str: "text",
        int: "integer",
        float: "number",
        bool: "true or false",
        NoneType: "null",
        Path: "path",
    }
    if _nested(leaf):
        return "group of settings"
    return names.get(leaf) or str(getattr(leaf, "__name__", leaf))


def _bounds(metadata: Sequence[Any]) -> Iterator[str]:
    for rule in metadata:
        match rule:
            case annotated_types.Gt(gt=bound):
                yield f"> {bound}"
            case annotated_types.Ge(ge=bound):
                yield f">= {bound}"
            case annotated_types.Lt(lt=bound):
                yield f"< {bound}"
            case annotated_types.Le(le=bound):
                yield f"<= {bound}"
            case _:
                pass


def _default_text(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default: Any = field.get_default(call_default_factory=True, validated_data={})
    if default is PydanticUndefined:
        return ""
    return "group of settings" if isinstance(default, Config) else inline_yaml(default)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
