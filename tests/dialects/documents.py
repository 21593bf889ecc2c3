"""
Batch documents in every spelling that JSON allows, and slow, exact readings of them.

The readings use the standard library and share nothing with the code under test.
"""

import json
import string
from random import Random
from urllib.parse import quote

from hypothesis import strategies as st

WHITE_SPACE = ("", "", "", "", " ", "\n", "\t", "\r\n", "  ")
SHORT_ESCAPES = {
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    '"': '\\"',
    "\\": "\\\\",
    "/": "\\/",
}


class Source(str):
    """
    JSON text that is written as it is.
    """

    __slots__ = ()


class Members(list):
    """
    The members of an object as pairs, so that names may be repeated.
    """


class Writer:
    """
    Writes JSON with white space and escapes where chance puts them.

    Args:
        seed: The same seed writes the same text.
        plain_names: Whether the names of members are written without needless escapes.
    """

    def __init__(self, seed, *, plain_names=True):
        self._random = Random(seed)
        self._plain_names = plain_names

    def write(self, value):
        return f"{self._space()}{self._write(value)}{self._space()}"

    def _write(self, value):
        if isinstance(value, Source):
            return str(value)
        if isinstance(value, str):
            return self._string(value, escape=0.15)
        if isinstance(value, dict):
            value = Members(value.items())
        if isinstance(value, Members):
            return "{" + ",".join(map(self._member, value)) + self._space() + "}"
        if isinstance(value, list):
            return "[" + ",".join(map(self.write, value)) + self._space() + "]"
        return json.dumps(value)

    def _member(self, pair):
        name, value = pair
        written = (
            str(name)
            if isinstance(name, Source)
            else self._string(name, escape=0 if self._plain_names else 0.3)
        )
        return f"{self._space()}{written}{self._space()}:{self.write(value)}"

    def _string(self, text, escape):
        return '"' + "".join(self._character(c, escape) for c in text) + '"'

    def _character(self, character, escape):
        must = character in '"\\' or character < " "
        if not must and self._random.random() >= escape:
            return character
        if character in SHORT_ESCAPES and self._random.random() < 0.5:
            return SHORT_ESCAPES[character]
        return escaped(character)

    def _space(self):
        return self._random.choice(WHITE_SPACE)


def escaped(text):
    """
    *text* as ``\\u`` escapes, beyond the basic plane as pairs.
    """
    units = text.encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02X}" for i in range(0, len(units), 2))


def shuffled(members, seed):
    pairs = Members(members.items() if isinstance(members, dict) else members)
    Random(seed).shuffle(pairs)
    return pairs


class _Pairs(list):
    """
    An object, read with all its members.
    """


def _refuse_constant(name):
    raise ValueError(name)


def read(document):
    """
    *document* as the standard library reads it, made strict; numbers stay text.

    Raises:
        ValueError: It is not one JSON document of RFC 8259 in UTF-8.
    """
    text = document.decode("utf-8")
    if text.startswith("\ufeff"):
        raise ValueError("byte order mark")
    value = json.loads(
        text,
        parse_int=str,
        parse_float=str,
        parse_constant=_refuse_constant,
        object_pairs_hook=_Pairs,
    )
    json.dumps(value, ensure_ascii=False).encode("utf-8")  # no half of a surrogate pair
    return value


def is_valid(document):
    try:
        read(document)
    except (ValueError, RecursionError):
        return False
    return True


def repeats_a_member(document):
    """
    Whether the envelope, an operation or its headers name a member twice.
    """
    envelope = read(document)
    objects = [envelope]
    for name, value in envelope:
        if name == "operations":
            objects += [operation for operation in value if isinstance(operation, _Pairs)]
    for operation in objects[1:]:
        objects += [v for k, v in operation if k == "headers" and isinstance(v, _Pairs)]
    return any(len(dict(each)) < len(each) for each in objects)


identifiers = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Cf", "Co", "Cn", "Zl", "Zp", "Zs")),
    min_size=1,
    max_size=8,
)
paths = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="/\\;")).map(
    lambda name: "/x" + quote(name)
)
header_values = st.text(string.ascii_letters + "\t ;,=/\"'\\", max_size=8).map(
    lambda text: text.strip("\t ")
)
headers = st.dictionaries(
    st.sampled_from(["accept", "Accept-Language", "content-type", "if-match", "PREFER"]),
    header_values,
    max_size=3,
)
numbers = st.sampled_from(
    "0 -0 1.0 1.50 1e5 1E+400 -12345678901234567890123 12345678901234567 1e-400 0.1".split()
)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.text(max_size=6), numbers.map(Source), st.integers()),
    lambda children: st.one_of(
        st.lists(children, max_size=4),
        st.lists(st.tuples(st.text(max_size=3), children), max_size=4).map(Members),
    ),
    max_leaves=12,
)
#: JSON texts in all spellings, without white space around them.
sources = st.builds(
    lambda value, seed: Source(Writer(seed, plain_names=False).write(value).strip(" \t\r\n")),
    json_values,
    st.integers(0, 2**32),
)


def _operations(ids):
    optional = {
        "headers": headers,
        "timeout": st.sampled_from([Source("1"), Source("0.5"), Source("3e1"), Source("30.0")]),
    }
    plain = st.fixed_dictionaries(
        {"method": st.sampled_from(["GET", "HEAD", "DELETE", "OPTIONS", "POST"]), "path": paths},
        optional=optional,
    )
    with_body = st.fixed_dictionaries(
        {"method": st.sampled_from(["POST", "PUT", "PATCH"]), "path": paths, "body": sources},
        optional={**optional, "bodyEncoding": st.just("json")},
    )
    one = st.one_of(plain, with_body)
    return st.tuples(*[one] * len(ids)).map(
        lambda each: [
            {**operation, "id": name} if name else operation
            for name, operation in zip(ids, each, strict=True)
        ]
    )


def _ids(names):
    # Digits alone could be the index of an operation that has no id.
    return [f"i{name}" if name else "" for name in names]


#: The operations of valid batches.
operations = (
    st.lists(st.one_of(st.just(""), identifiers), min_size=1, max_size=4)
    .map(_ids)
    .filter(lambda ids: len({name for name in ids if name}) == len([n for n in ids if n]))
    .flatmap(_operations)
)
seeds = st.integers(0, 2**32)
