"""Configuration: one source of defaults, one order of precedence, one line for each mistake."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgenet_node.config import Config, data_dir, load, render, worker_count
from edgenet_node.config.load import FILE_BYTES_MAX
from edgenet_node.config.sections import table
from edgenet_node.errors import ConfigError

SHIPPED = Path(__file__).parent.parent / "config" / "node.toml"
PEER = "/ip4/10.0.0.1/tcp/4001/p2p/12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq"


def refusal(path: Path | None, environ: dict[str, str], overrides: dict[str, object] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, environ, overrides)
    assert "\n" not in caught.value.message
    return caught.value.message


def write(folder: Path, text: str) -> Path:
    path = folder / "some.toml"
    path.write_text(text)
    return path


def test_the_shipped_file_is_the_defaults_with_a_reason_for_each() -> None:
    assert SHIPPED.read_text() == render(Config())
    assert load(SHIPPED, {}) == Config()
    lines = SHIPPED.read_text().splitlines()
    keys = [i for i, line in enumerate(lines) if " = " in line and not line.startswith("#")]
    assert len(keys) == len(table())
    assert all(lines[i - 1].startswith("# ") and len(lines[i - 1]) <= 120 for i in keys)


def test_every_default_is_within_its_own_bounds() -> None:
    for field in table().values():
        text = ",".join(field.default) if get_origin(field.type) is tuple else str(field.default).lower()
        section, key = field.name.split(".")
        got = load(SHIPPED, {f"EDGENET_{section}__{key}".upper(): text})
        assert got == Config(), field.name


def test_flags_beat_environment_beats_other_names_beats_file_beats_defaults(tmp_path: Path) -> None:
    path = write(tmp_path, '[node]\nlog_level = "error"\n[network]\npeers_max = 10\n')
    environ: dict[str, str] = {}
    seen = [load(path, environ).node.log_level]
    environ["RUST_LOG"] = "hyper=trace, WARN"
    seen.append(load(path, environ).node.log_level)
    environ["EDGENET_NODE__LOG_LEVEL"] = "debug"
    seen.append(load(path, environ).node.log_level)
    seen.append(load(path, environ, {"node.log_level": "info", "api.port": None}).node.log_level)
    assert seen == ["error", "warning", "debug", "info"]
    assert load(path, environ).network.peers_max == 10


def test_lists_numbers_and_switches_come_from_text(tmp_path: Path) -> None:
    config = load(
        SHIPPED,
        {
            "EDGENET_NETWORK__LISTEN": "/ip4/127.0.0.1/tcp/0, /ip6/::1/tcp/4001",
            "EDGENET_NETWORK__BOOTSTRAP": "",
            "EDGENET_MARKET__BID_WINDOW_S": "1",
            "EDGENET_FAULTS__LIE": "true",
            "EDGENET_DATA_DIR": str(tmp_path),
            "PATH": "/bin",
        },
        {"network.static_peers": [PEER], "api.port": "0"},
    )
    assert config.network.listen == ("/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/4001")
    assert config.network.bootstrap == ()
    assert config.network.static_peers == (PEER,)
    assert config.market.bid_window_s == 1.0
    assert config.faults.lie is True
    assert config.api.port == 0
    assert data_dir(config) == tmp_path


def test_the_file_is_found_by_name_or_in_the_data_folder(tmp_path: Path) -> None:
    named = write(tmp_path, "[network]\npeers_max = 7\n")
    assert load(None, {"EDGENET_CONFIG": str(named), "EDGENET_DATA_DIR": "/nowhere"}).network.peers_max == 7
    assert load(None, {"EDGENET_DATA_DIR": str(tmp_path)}) == load(SHIPPED, {"EDGENET_DATA_DIR": str(tmp_path)})
    (tmp_path / "node.toml").write_text("[network]\npeers_max = 8\n")
    assert load(None, {}, {"node.data_dir": str(tmp_path)}).network.peers_max == 8
    (tmp_path / "node.toml").write_text('[node]\ndata_dir = "/elsewhere"\n')
    assert "another folder" in refusal(None, {"EDGENET_DATA_DIR": str(tmp_path)})


def test_variables_of_the_scripts_are_no_keys(tmp_path: Path) -> None:
    environ = {"EDGENET_DATA_DIR": str(tmp_path)}
    scripts = {"EDGENET_PYTHON": "python3.12", "EDGENET_VENV": ".venv-3.12", "EDGENET_BENCH_PYTHON": "python3"}
    assert load(None, environ | scripts) == load(None, environ)
    with pytest.raises(ConfigError, match="EDGENET_PYTHONS: unknown key"):
        load(None, environ | {"EDGENET_PYTHONS": "python3.12"})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "[network]\nlisten_addr = []",
            ["some.toml", "unknown key 'network.listen_addr'", "did you mean network.listen?"],
        ),
        ("[netwrok]\npeers_max = 3", ["netwrok", "did you mean network.peers_max?"]),
        ("[api]\nreplicas = 3", ["did you mean index.replicas?"]),
        ("peers_max = 3", ["did you mean network.peers_max?"]),
        ("[surprise]", ["unknown key 'surprise'", "sections are node, network"]),
        ("[x]\ny = 1", ["sections are"]),
        ("network = 5", ["network is a section"]),
        (
            "[network]\npeers_max = 0",
            ["some.toml: network.peers_max = 0: must be whole number, 1 to 1024 peers (each costs"],
        ),
        ("[network]\npeers_max = 2.5", ["network.peers_max = 2.5"]),
        ("[network]\npeers_max = true", ["whole number"]),
        ("[network]\npeers_max = []", ["whole number"]),
        ('[network]\npeers_max = "5"', ["whole number"]),
        ('[network]\nlisten = "/ip4/1.1.1.1/tcp/1"', ["list of at most 64"]),
        ("[node]\ngrace_s = nan", ["grace_s = nan", "1 to 300 s"]),
        ("[node]\ngrace_s = inf", ["grace_s = inf"]),
        ('[node]\nlog_level = "loud"', ["debug, info, warning or error"]),
        ('[node]\ndata_dir = "a\\u0000b"', ["node.data_dir"]),
        ('[network]\nlisten = ["localhost:4001"]', ["'localhost:4001'", "/ip4/0.0.0.0/tcp/4001"]),
        ('[network]\nbootstrap = ["/ip4/1.2.3.4/tcp/4001"]', ["/p2p/12D3"]),
        ("[network]\nlisten = " + str(["/ip4/1.1.1.1/tcp/1"] * 65), ["65 entries", "at most 64"]),
        ('[network]\nswarm = "XYZ"', ["42 hexadecimal digits"]),
        ("[faults]\nlie = 2", ["true or false"]),
        ("[artifacts]\nbudget_bytes = 16777216", ["artifact_bytes_max", "never fit"]),
        ("[network\n", ["is not TOML"]),
        ("x = " + "[" * 5000, ["is not TOML"]),
        ("#" * (FILE_BYTES_MAX + 1), ["no configuration file"]),
    ],
)
def test_each_mistake_in_a_file_is_told_in_one_line(tmp_path: Path, text: str, told: list[str]) -> None:
    message = refusal(write(tmp_path, text), {})
    for part in told:
        assert part in message
    assert len(message) < 400


def test_mistakes_in_environment_flags_and_paths(tmp_path: Path) -> None:
    message = refusal(SHIPPED, {"EDGENET_NETWORK__PEERSMAX": "5"})
    assert message.startswith("EDGENET_NETWORK__PEERSMAX: ")
    assert "EDGENET_NETWORK__PEERS_MAX?" in message
    assert refusal(SHIPPED, {"EDGENET_API__PORT": "http"}).startswith("EDGENET_API__PORT: api.port = 'http'")
    assert refusal(SHIPPED, {}, {"api.port": 99999}).startswith(
        "flag: api.port = 99999: must be whole number, 0 to 65535"
    )
    assert refusal(SHIPPED, {}, {"api.prot": 1}).endswith("did you mean api.port?")
    assert "No such file" in refusal(tmp_path / "missing.toml", {})
    assert "irectory" in refusal(tmp_path, {})
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "is not TOML" in refusal(binary, {})


@pytest.mark.parametrize(
    ("name", "value", "ours"),
    [
        ("RUST_LOG", "hyper=debug", "EDGENET_NODE__LOG_LEVEL"),
        ("SWARM_COORDINATOR", "ws://localhost:8080", "EDGENET_NETWORK__BOOTSTRAP"),
        ("SWARM_SYNC_INTERVAL", "1000", "EDGENET_NETWORK__PRESENCE_INTERVAL_S"),
        ("RUVECTOR_COMPRESSION", "binary", "exact"),
    ],
)
def test_other_names_without_an_equal_are_refused_with_ours(name: str, value: str, ours: str) -> None:
    message = refusal(SHIPPED, {name: value})
    assert message.startswith(name)
    assert ours in message


@pytest.mark.parametrize("value", ["auto", "none"])
def test_other_names_that_ask_for_what_we_do_are_accepted(value: str) -> None:
    assert load(SHIPPED, {"RUVECTOR_COMPRESSION": value, "RUST_LOG": "info"}) == Config()


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from(sorted(table())), st.text(max_size=30) | st.integers() | st.floats() | st.none())
)
def test_any_values_load_or_are_refused_and_what_loads_survives_its_own_file(given_values: dict[str, Any]) -> None:
    try:
        config = load(SHIPPED, {}, given_values)
    except ConfigError:
        return
    document = tomllib.loads(render(config))
    again = load(SHIPPED, {}, {f"{s}.{k}": v for s, keys in document.items() for k, v in keys.items()})
    assert again == config


def test_worker_count_leaves_a_core_to_the_loop() -> None:
    assert [worker_count(Config(), cores) for cores in (1, 2, 8, 64)] == [1, 1, 7, 16]
    assert worker_count(load(SHIPPED, {"EDGENET_WORKERS__COUNT": "3"}), 64) == 3


def test_reading_settings_imports_nothing_heavy() -> None:
    heavy = ("trio", "numpy", "libp2p", "structlog", "sqlite3", "asyncio", "difflib")
    code = (
        "import sys; from edgenet_node.config import load; import edgenet_node.adapters.data_dir; load(None, {});"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.strip() == "[]"
