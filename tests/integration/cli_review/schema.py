"""The part of JSON Schema (2020-12) that docs/review.schema.json uses; another keyword is an error."""

import json
import os
import re

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "null": type(None)}
SAID = {"$schema", "$defs", "title", "description"}  # of no meaning for a value

with open(os.path.join(TOP, "docs/review.schema.json"), encoding="ascii") as f:
    SCHEMA = json.load(f)


def is_of(value, name):
    return isinstance(value, TYPES[name]) and not (name == "integer" and isinstance(value, bool))


def check_object(value, schema, where):
    for name in schema.get("required", []):
        assert name in value, f"{where}: no {name}"
    for name, member in value.items():
        assert name in schema["properties"], f"{where}: {name} is not in the schema"
        check(member, schema["properties"][name], f"{where}.{name}")


def check_keyword(value, word, want, where):
    if word == "type":
        names = [want] if isinstance(want, str) else want
        assert any(is_of(value, name) for name in names), f"{where}: {value!r} is no {want}"
    elif word == "enum":
        assert value in want, f"{where}: {value!r} is none of {want}"
    elif word == "const":
        assert value == want, f"{where}: {value!r} is not {want}"
    elif word == "pattern":
        assert not isinstance(value, str) or re.search(want, value), f"{where}: {value!r} is not like {want}"
    elif word == "minimum":
        assert not is_of(value, "integer") or value >= want, f"{where}: {value} is below {want}"
    elif word in ("minItems", "maxItems"):
        assert len(value) >= want if word == "minItems" else len(value) <= want, f"{where}: {len(value)} of them"
    elif word == "items":
        for i, one in enumerate(value or []):
            check(one, want, f"{where}[{i}]")
    else:
        raise AssertionError(f"{where}: this test does not know the keyword {word}")


def check(value, schema=None, where="$"):
    """Raises AssertionError where the value is not as the schema says."""
    schema = SCHEMA if schema is None else schema
    if "$ref" in schema:
        assert schema["$ref"].startswith("#/$defs/")
        check(value, SCHEMA["$defs"][schema["$ref"][8:]], where)
        return
    for word, want in schema.items():
        if word in SAID or word in ("properties", "required"):
            continue
        if word == "additionalProperties":
            assert want is False
            continue
        check_keyword(value, word, want, where)
    if isinstance(value, dict):
        check_object(value, schema, where)
