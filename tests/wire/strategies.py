"""Hypothesis strategies from msgspec's description of a type."""

from __future__ import annotations

import re
from typing import Any, Final

from hypothesis import strategies as st
from msgspec import Struct, inspect

ITEMS_MAX: Final = 6
"""Of a generated list or map: its bounds are the vectors' business."""


def strategy(info: inspect.Type) -> st.SearchStrategy[Any]:
    """Values of a type, from msgspec's description of it, edges included. Structs as themselves."""
    match info:
        case inspect.Metadata():
            return strategy(info.type)
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.IntType():
            low = -(2**63) if info.ge is None else info.ge
            high = 2**63 if info.lt is None else info.lt
            return st.integers(int(low), int(high - 1 if info.le is None else info.le))
        case inspect.FloatType():
            return st.floats(info.ge, info.le, allow_nan=False, allow_infinity=False)
        case inspect.StrType():
            return _text(info)
        case inspect.BytesType():
            low = info.min_length or 0
            return st.binary(min_size=low, max_size=max(low, min(info.max_length or 64, 64)))
        case inspect.LiteralType():
            return st.sampled_from(info.values)
        case inspect.EnumType():
            return st.sampled_from(info.cls)
        case inspect.VarTupleType():
            items = st.lists(strategy(info.item_type), min_size=info.min_length or 0, max_size=ITEMS_MAX)
            return items.map(tuple)
        case inspect.ListType():
            return st.lists(strategy(info.item_type), max_size=min(info.max_length or ITEMS_MAX, ITEMS_MAX))
        case inspect.DictType():
            keys, values = strategy(info.key_type), strategy(info.value_type)
            return st.dictionaries(keys, values, max_size=min(info.max_length or ITEMS_MAX, ITEMS_MAX))
        case inspect.UnionType():
            return st.one_of(*(strategy(member) for member in info.types))
        case inspect.StructType():
            fields = {field.name: strategy(field.type) for field in info.fields}
            if hasattr(info.cls, "__post_init__"):
                return st.fixed_dictionaries(fields).map(lambda found: _ordered(info.cls, found))
            return st.builds(info.cls, **fields)
    raise AssertionError(f"no strategy for {info}")


def _ordered(kind: type, fields: dict[str, Any]) -> Any:
    """A struct that checks itself: what ours ask for is that arrays ascend, by the first field of their structs."""

    def first(one: Any) -> Any:
        return getattr(one, one.__struct_fields__[0]) if isinstance(one, Struct) else one

    for name, value in fields.items():
        if isinstance(value, tuple):
            fields[name] = tuple(sorted({first(one): one for one in value}.values(), key=first))
    return kind(**fields)


def _text(info: inspect.StrType) -> st.SearchStrategy[str]:
    low, high = info.min_length or 0, info.max_length or 64
    if info.pattern is None:
        return st.text(min_size=low, max_size=min(high, 64))
    if low > 4:
        # These patterns say which characters, not how many.
        [characters] = re.findall(r"\[(.+?)\]\+", info.pattern)
        one = st.from_regex(f"[{characters}]", fullmatch=True)
        return st.text(one, min_size=low, max_size=min(high, low + 4))
    pattern = re.compile(info.pattern)
    texts = st.from_regex(pattern, alphabet=st.characters(max_codepoint=127)).map(lambda text: text[:high])
    return texts.filter(lambda text: low <= len(text) and pattern.search(text) is not None)
