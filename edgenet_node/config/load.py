"""Where each key is taken from, how it is checked, and how the whole is written as TOML."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_origin

import msgspec
from msgspec import Struct, structs

from ..errors import ConfigError
from .sections import Config, Field, table

FILE_BYTES_MAX = 256 << 10
"""A configuration file above this is not one."""

LIST_MAX = 64
"""Entries in a list: each address or peer costs a socket or a dial."""

TEXT_MAX = 4096
PREFIX = "EDGENET_"
NOT_KEYS = frozenset(
    PREFIX + name
    for name in ("CONFIG", "DATA_DIR", "KEY_PASSWORD", "PYTHON", "VENV", "BENCH_PYTHON", "CONFORMANCE", "JS_MODULES")
)
"""Variables of ours that stand for no key. The password of a protected key is read where the key is opened; from PYTHON
on, they are for the scripts and tests of the project, which start nodes in the same environment."""


class _Given(Struct, frozen=True):
    """A value and who gave it. `as_text`: text may stand for any type, as in the environment."""

    value: object
    source: str
    as_text: bool = True


def load(path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object] | None = None) -> Config:
    """The settings; see the package. `overrides` that are None count as not given."""
    given = {
        _known(name, "flag"): _Given(value, "flag") for name, value in (overrides or {}).items() if value is not None
    }
    for name, row in (*_from_environ(environ).items(), *_from_other_names(environ).items()):
        given.setdefault(name, row)
    if path is None and (named := environ.get(PREFIX + "CONFIG")):
        path = Path(named).expanduser()
    if path is not None:
        rows = _from_file(path)
    else:
        folder = _folder(str(given["node.data_dir"].value) if "node.data_dir" in given else "")
        beside = folder / "node.toml"
        rows = _from_file(beside) if beside.is_file() else {}
        inside = str(rows["node.data_dir"].value) if "node.data_dir" in rows else ""
        if inside and _folder(inside) != folder:  # `init` writes an empty one, which names none
            raise ConfigError(f"{beside}: node.data_dir names another folder than the one this file lies in: remove it")
    for name, row in rows.items():
        given.setdefault(name, row)
    sections: dict[str, dict[str, object]] = {}
    for name, one in given.items():
        section, _, key = name.partition(".")
        sections.setdefault(section, {})[key] = _value(table()[name], one)
    config = Config(**{f.name: f.type(**sections.get(f.name, {})) for f in structs.fields(Config)})
    _check_together(config)
    return config


def data_dir(config: Config) -> Path:
    """The data folder in use: the configured one, else the platform's."""
    return _folder(config.node.data_dir)


def worker_count(config: Config, cores: int) -> int:
    """`workers.count`, or for 0 one per core but one (the loop's), between 1 and 16."""
    return config.workers.count or min(16, max(1, cores - 1))


def render(config: Config) -> str:
    """The configuration as TOML, each key with its unit, bounds and reason."""
    lines = [
        "# Every key with its default. A key is taken from the first of: command-line flag, environment",
        f"# ({PREFIX}<SECTION>__<KEY>, lists comma separated), this file, default.",
    ]
    for section in structs.fields(Config):
        lines += ["", f"[{section.name}]"]
        values = getattr(config, section.name)
        for item in structs.fields(values):
            field = table()[f"{section.name}.{item.name}"]
            lines.append(f"# {field.key.why} ({_allowed(field)})")
            lines.append(f"{item.name} = {_toml(getattr(values, item.name))}")
    return "\n".join(lines) + "\n"


def _folder(configured: str) -> Path:
    if configured:
        return Path(configured).expanduser().absolute()
    import platformdirs  # only when nobody named a folder: it costs a few milliseconds

    return platformdirs.user_data_path("edgenet-node", appauthor=False)


def _from_environ(environ: Mapping[str, str]) -> dict[str, _Given]:
    rows: dict[str, _Given] = {}
    if PREFIX + "DATA_DIR" in environ:
        rows["node.data_dir"] = _Given(environ[PREFIX + "DATA_DIR"], PREFIX + "DATA_DIR")
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in NOT_KEYS:
            key = _known(name.removeprefix(PREFIX).lower().replace("__", ".", 1), name)
            rows[key] = _Given(environ[name], name)
    return rows


def _from_other_names(environ: Mapping[str, str]) -> dict[str, _Given]:
    """Names that operators of other swarms may still have set."""
    rows: dict[str, _Given] = {}
    if filters := environ.get("RUST_LOG", ""):
        levels = {
            "trace": "debug",
            "warn": "warning",
            "debug": "debug",
            "info": "info",
            "error": "error",
            "off": "error",
        }
        plain = [levels[part] for part in filters.lower().replace(" ", "").split(",") if part in levels]
        if not plain:
            raise ConfigError(f"RUST_LOG={filters[:80]}: only a plain level is understood: use {PREFIX}NODE__LOG_LEVEL")
        rows["node.log_level"] = _Given(plain[0], "RUST_LOG")
    if "SWARM_COORDINATOR" in environ:
        raise ConfigError(f"SWARM_COORDINATOR: there is no coordinator here: unset it, use {PREFIX}NETWORK__BOOTSTRAP")
    if "SWARM_SYNC_INTERVAL" in environ:
        raise ConfigError(
            f"SWARM_SYNC_INTERVAL (milliseconds): unset it, use {PREFIX}NETWORK__PRESENCE_INTERVAL_S (seconds)"
        )
    compression = environ.get("RUVECTOR_COMPRESSION", "none")
    if compression not in ("auto", "none"):
        raise ConfigError(f"RUVECTOR_COMPRESSION={compression[:80]}: vectors are kept exact (none) here: unset it")
    return rows


def _from_file(path: Path) -> dict[str, _Given]:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            raise ConfigError(f"{path} is above {FILE_BYTES_MAX} bytes: it is no configuration file")
        document = tomllib.loads(data.decode())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}: name another file or create this one") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    rows: dict[str, _Given] = {}
    sections = {field.name for field in structs.fields(Config)}
    for section, keys in document.items():
        if section in sections and not isinstance(keys, dict):
            raise ConfigError(f"{path}: {section} = ...: {section} is a section: write [{section}] and its keys below")
        if section not in sections and (not keys or not isinstance(keys, dict)):
            _known(section, str(path))
        for key, value in keys.items():
            rows[_known(f"{section}.{key}", str(path))] = _Given(value, str(path), as_text=False)
    return rows


def _known(name: str, source: str) -> str:
    if name in table():
        return name
    import difflib  # only on the way to an error

    section, _, key = name.partition(".")
    # A right section with a wrong key, a right key in a wrong section, or a slip of the keyboard.
    moved = [other for other in table() if other.endswith("." + (key or section))]
    near = moved or difflib.get_close_matches(name[:80], list(table()), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"sections are {', '.join(f.name for f in structs.fields(Config))}"
    if near and source.startswith(PREFIX):
        hint = f"did you mean {PREFIX}{near[0].upper().replace('.', '__')}?"
    raise ConfigError(f"{source}: unknown key {name[:80]!r}: {hint}")


def _value(field: Field, given: _Given) -> object:
    """Checked and converted."""
    raw, source = given.value, given.source
    is_list = get_origin(field.type) is tuple
    if isinstance(raw, str) and is_list and given.as_text:
        raw = [part.strip() for part in raw.split(",") if part.strip()]
    try:
        value = msgspec.convert(raw, field.type, strict=not (isinstance(raw, str) and given.as_text))
    except msgspec.ValidationError:
        raise _wrong(field, raw, source) from None
    key = field.key
    if isinstance(value, int | float) and not isinstance(value, bool) and not key.low <= value <= key.high:
        raise _wrong(field, raw, source)
    texts = value if is_list else (value,) if field.type is str else ()
    if len(texts) > LIST_MAX:
        raise _wrong(field, f"{len(texts)} entries", source)
    for text in texts:
        if len(text) > TEXT_MAX or "\x00" in text or (key.pattern and not re.fullmatch(key.pattern, text)):
            raise _wrong(field, text, source)
    return value


def _wrong(field: Field, raw: object, source: str) -> ConfigError:
    shown = repr(raw)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return ConfigError(f"{source}: {field.name} = {shown}: must be {_allowed(field)} ({field.key.why})")


def _allowed(field: Field) -> str:
    key = field.key
    if field.type is bool:
        return "true or false"
    if get_origin(field.type) is Literal:
        return ", ".join(field.type.__args__[:-1]) + " or " + str(field.type.__args__[-1])
    if get_origin(field.type) is tuple:
        return f"list of at most {LIST_MAX}: {key.shape or 'text'}"
    if field.type is str:
        return key.shape or "text"
    kind = "whole number" if field.type is int else "number"
    return f"{kind}, {key.low:.15g} to {key.high:.15g}{' ' + key.unit if key.unit else ''}"


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def _check_together(config: Config) -> None:
    artifacts = config.artifacts
    if artifacts.artifact_bytes_max > artifacts.budget_bytes:
        raise ConfigError(
            f"artifacts.artifact_bytes_max = {artifacts.artifact_bytes_max} is above artifacts.budget_bytes = "
            f"{artifacts.budget_bytes}: the largest artifact would never fit"
        )
