"""The protocol pages, the vectors and the tests hold together: nothing registered without its page, no MUST without
evidence, no vector that nobody reads."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import re
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import msgspec

from edgenet_node.wire import registry

from . import test_blob, test_vectors
from .corpus import PROTOCOLS, ROOT, entries, pages, requirements, vectors
from .readers import CANONICAL, CHANGES, LOGGED, READERS, SIGNED, TRANSFERS

_TEST: Final = re.compile(r"def test_([a-z]+)_((?:\d+_)+)")
_PREFIXES: Final = {"encoding": "ENC", "identity": "ID"}
_PARAMETERS: Final = frozenset({
    "topic", "raises", "retry_after_s", "rest", "swarm", "peer", "public", "domain", "signature", "items", "content",
    "digest", "size_max", "partial", "sender", "receiver", "now_ms", "entropy", "lenient",
})  # fmt: skip


def script() -> ModuleType:
    """scripts/protocols as a module."""
    loader = importlib.machinery.SourceFileLoader("protocols_script", str(ROOT / "scripts" / "protocols"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


SCRIPT: Final[Any] = script()


def test_generated_files_are_up_to_date() -> None:
    assert SCRIPT.stale() == [], "run scripts/protocols"


def test_every_protocol_has_its_page_its_layout_and_its_vectors() -> None:
    folders = {path.name for path in PROTOCOLS.iterdir() if path.is_dir()}
    assert folders == set(SCRIPT.folders())
    for folder in folders:
        assert (PROTOCOLS / folder / "spec.md").is_file()
        assert (PROTOCOLS / folder / "schema.json").is_file() is (folder not in SCRIPT.BYTE_LAYOUTS)
        found = sorted(path.name for path in (PROTOCOLS / folder / "vectors").iterdir())
        assert found == ["invalid.json", "valid.json"]


def test_the_tables_of_the_registry_page_name_exactly_what_is_registered() -> None:
    names = {call.name for call in registry.CALLS} | {topic.name for topic in registry.TOPICS}
    names |= {stream.name for stream in registry.MESSAGES}
    assert set(SCRIPT.LIFECYCLES) == set(SCRIPT.SENDERS) == names
    assert set(SCRIPT.TOPIC_FOLDERS) == {topic.name for topic in registry.TOPICS}
    text = (PROTOCOLS / "README.md").read_text(encoding="utf-8")
    assert all(f"`{call.name}`" in text for call in registry.CALLS)


def test_every_message_has_vectors_of_both_kinds() -> None:
    counts = Counter((vector.context, vector.valid) for vector in vectors())
    contexts = [f"{side}:{call.name}" for call in registry.CALLS for side in ("call", "reply")]
    contexts += [f"gossip:{topic.name}/{topic.version}" for topic in registry.TOPICS]
    contexts += [f"message:{stream.name}" for stream in registry.MESSAGES]
    contexts += [f"entry:{name}" for name in (*LOGGED, *CHANGES)]
    contexts += [f"signed:{name}" for name in SIGNED]
    contexts += [f"canonical:{name}" for name in CANONICAL]
    prefixes = {context.partition(":")[0] for context in contexts}
    contexts += [head for head in (*READERS, *TRANSFERS) if head not in prefixes]
    for context in contexts:
        # A PeerId as text has no valid ones of its own: they are in `names`.
        assert counts[context, True] or context == "peer-id", context
        assert counts[context, False] >= 4 or context in ("names", "command-session"), context


def test_every_vector_is_read_by_a_test() -> None:
    written = Counter(
        (path.parents[1].name, path.stem, entry["name"])
        for path in PROTOCOLS.rglob("vectors/*")
        for entry in entries(path)
    )
    assert max(written.values()) == 1, "two vectors of one name"
    read = [*test_vectors.VALID, *test_vectors.RAISING, *test_vectors.INVALID, *test_blob.SERVED, *test_blob.FETCHED]
    seen = Counter((vector.protocol, "valid" if vector.valid else "invalid", vector.name) for vector in read)
    assert seen == written


def test_vectors_use_what_the_registry_page_explains() -> None:
    for vector in vectors():
        assert vector.head in READERS or vector.head in TRANSFERS, vector
        assert set(vector.more) <= _PARAMETERS, vector
        assert vector.must, vector


def test_every_parameter_and_context_is_explained() -> None:
    text = (PROTOCOLS / "README.md").read_text(encoding="utf-8")
    for word in (*READERS, *TRANSFERS, *(_PARAMETERS - {"peer", "sender", "receiver"})):
        assert re.search(rf"`{word}[`:]", text), word


def test_requirements_are_numbered_in_order_and_every_must_is_in_one() -> None:
    found = requirements()
    for page in pages():
        name = page.stem if page.parent == PROTOCOLS else page.parent.name
        prefix = _PREFIXES.get(name, name.upper())
        own = [one for one in found if one.page == page]
        assert [one.id for one in own] == [f"{prefix}-{number}" for number in range(1, len(own) + 1)]
        text = page.read_text(encoding="utf-8")
        for one in own:
            assert "MUST" in one.text, one.id
            text = text.replace(one.text, "")
        # The one sentence that is left over explains the words.
        assert "MUST" not in text.replace("The words MUST, MUST NOT, SHOULD and MAY", ""), page


def test_every_requirement_has_a_vector_or_a_test() -> None:
    evidence = {id_ for vector in vectors() for id_ in vector.must}
    for path in (ROOT / "tests").rglob("test_*.py"):
        for prefix, numbers in _TEST.findall(path.read_text(encoding="utf-8")):
            evidence |= {f"{prefix.upper()}-{number}" for number in numbers.strip("_").split("_")}
    known = {one.id: one for one in requirements()}
    for one in known.values():
        for file, function in one.tests:
            source = (ROOT / file).read_text(encoding="utf-8")
            assert re.search(rf"def {function}\(", source), f"{one.id} cites {file}::{function}, which is not there"
        assert one.id in evidence or one.tests, f"{one.id} has no vector and no test"
    prefixes = {id_.partition("-")[0] for id_ in known}
    assert {id_ for id_ in evidence if id_.partition("-")[0] in prefixes} <= set(known), "evidence for no requirement"


def test_schemas_say_what_the_types_say() -> None:
    """The generator rewrites what msgspec says of bytes; lengths must survive that."""
    offer = msgspec.json.decode((PROTOCOLS / "auction" / "schema.json").read_bytes())["$defs"]["Offer"]
    assert offer["properties"]["lease"] == {
        "type": "string", "contentEncoding": "base16", "minLength": 32, "maxLength": 32,
    }  # fmt: skip
    assert list(offer["properties"]) == ["auction", "lease", "price", "units", "expires_s", "workers", "load"]
    for path in PROTOCOLS.glob("*/schema.json"):
        text = path.read_text(encoding="utf-8")
        assert "base64" not in text, path
        assert r"\\Z" not in text, path


def test_links_between_pages_lead_somewhere() -> None:
    for page in (PROTOCOLS / "README.md", *pages()):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (page.parent / target).is_file(), f"{page}: {target}"


def test_the_builder_shares_no_code_with_the_node() -> None:
    for path in (Path(__file__).parent / "builder").glob("*.py"):
        assert not re.search(r"^\s*(from|import) +edgenet_node", path.read_text(encoding="utf-8"), re.MULTILINE), path
