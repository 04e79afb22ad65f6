from __future__ import annotations

import pytest

from edgenet_node.adapters.process_executor.context import Residents, WorkerContext, is_target, load_function


def context(count_max: int = 3, bytes_max: int = 100) -> tuple[WorkerContext, Residents]:
    residents = Residents(count_max, bytes_max)
    return WorkerContext(residents, lambda: False), residents


def test_a_resident_is_loaded_once() -> None:
    ctx, residents = context()
    first = ctx.resident("model", object)
    assert ctx.resident("model", object) is first
    assert residents.loads == 1


def test_the_least_recently_used_goes_first_by_count() -> None:
    ctx, residents = context()
    for name in ("a", "b", "c", "a", "d"):
        ctx.resident(name, list)
    assert residents.names() == ["c", "a", "d"]


def test_and_by_declared_bytes_before_the_new_one_is_loaded() -> None:
    ctx, residents = context()
    ctx.resident("a", list, size_bytes=60)
    ctx.resident("b", list, size_bytes=40)
    seen: list[list[str]] = []
    ctx.resident("c", lambda: seen.append(residents.names()), size_bytes=50)
    assert seen == [["b"]]
    assert residents.names() == ["b", "c"]


def test_a_new_version_replaces_the_old_one() -> None:
    ctx, residents = context()
    ctx.resident("shard/7@1", list)
    ctx.resident("shard/8@1", list)
    ctx.resident("shard/7@2", list)
    assert residents.names() == ["shard/8@1", "shard/7@2"]


def test_one_above_the_limit_is_loaded_for_the_call_only() -> None:
    ctx, residents = context()
    assert ctx.resident("huge", lambda: "value", size_bytes=101) == "value"
    assert residents.names() == []


def test_a_failed_load_leaves_nothing() -> None:
    ctx, residents = context()
    with pytest.raises(ZeroDivisionError):
        ctx.resident("bad", lambda: 1 // 0)
    assert residents.names() == []


@pytest.mark.parametrize(("name", "size"), [("", 0), ("x" * 201, 0), ("a", -1)])
def test_unusable_names_and_sizes(name: str, size: int) -> None:
    ctx, _ = context()
    with pytest.raises(ValueError, match=r"resident|size_bytes"):
        ctx.resident(name, list, size_bytes=size)


def test_functions_are_named_by_module_and_attribute() -> None:
    assert load_function("math:sqrt")(4.0) == 2.0
    for target in ("math:pi", "math:nothing"):
        with pytest.raises(TypeError, match="not a function"):
            load_function(target)
    for text in ("math", "math.sqrt", ":sqrt", "math:", "a b:c", "math:sqrt()", "../x:y", "math:a.b"):
        assert not is_target(text)
