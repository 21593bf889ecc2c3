"""
A batch request becomes bytes, and the bytes become the same operations and scopes again.
"""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_batch._core.models import CurrentOperation, Operation
from asgi_batch._core.packing import (
    check_whole,
    pack_caller,
    pack_operations,
    template_of,
    unpack_operations,
)
from asgi_batch._core.scope import ScopeTemplate
from support import batch_scope

CURRENT = CurrentOperation("batch", "name", 0, 1)
HEADERS = [
    (b"host", b"testserver"),
    (b"authorization", b"Bearer secret"),
    (b"cookie", b"a=b"),
    (b"content-type", b"application/json"),
    (b"x-request-id", b"r\xe9quest"),
]

pairs = st.tuples(st.binary(max_size=20), st.binary(max_size=20))
# As clients can write them: text that is not UTF-8 is refused before.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
bodies = st.binary(max_size=50)
operations = st.builds(
    Operation,
    index=st.integers(0, 10**6),
    id=texts,
    method=st.sampled_from(["GET", "POST", "OPTIONS"]),
    path=texts,
    raw_path=st.binary(max_size=20),
    query_string=st.binary(max_size=20),
    headers=st.lists(pairs, max_size=3).map(tuple),
    replaces=st.frozensets(st.binary(max_size=20), max_size=3),
    body=bodies | bodies.map(msgspec.Raw),
    timeout=st.none() | st.floats(0.001, 1000),
)
addresses = st.none() | st.tuples(texts, st.none() | st.integers(0, 65_535))
lifespans = st.dictionaries(
    st.sampled_from(["app", "litestar_app", "state", "type", "asgi"]), st.just({"key": object()})
)


def an_operation(**members):
    """
    An operation with a header and a body; *members* replace or add.
    """
    return Operation(
        **{
            "index": 0,
            "id": "name",
            "method": "POST",
            "path": "/ä b",
            "raw_path": b"/%C3%A4%20b",
            "query_string": b"a=%20",
            "headers": ((b"content-type", b"text/plain"),),
            "replaces": frozenset((b"content-type",)),
            "body": b"\x00\xff",
            "timeout": 1.5,
            **members,
        }
    )


@given(st.lists(operations, max_size=5))
def test_operations_come_back_as_they_were(given_operations):
    """
    Whatever is in them; a body comes back as plain bytes.
    """
    back = list(unpack_operations(pack_operations(given_operations)))

    assert back == [
        msgspec.structs.replace(each, body=bytes(each.body)) for each in given_operations
    ]
    assert all(type(each.body) is bytes for each in back)


@pytest.mark.parametrize(("count", "chunks"), [(0, 0), (1, 1), (64, 1), (65, 2), (200, 4)])
def test_operations_are_kept_in_chunks(count, chunks):
    """
    So that no single piece is large, and the order is that of the request.
    """
    packed = list(pack_operations([an_operation(index=index) for index in range(count)]))

    assert len(packed) == chunks
    assert [each.index for each in unpack_operations(packed)] == list(range(count))


def test_body_that_is_a_slice_of_the_request_lets_go_of_it():
    """
    Where the body was JSON, it is kept without the document around it.
    """
    document = msgspec.json.decode(b'{"body": {"a": [1]}}', type=dict[str, msgspec.Raw])
    packed = pack_operations([an_operation(body=document["body"])])

    assert next(unpack_operations(packed)).body == b'{"a": [1]}'


@given(
    root_path=st.sampled_from(["", "/api", "/a b", "/ä"]),
    is_in_front=st.booleans(),
    scheme=st.sampled_from(["http", "https"]),
    server=addresses,
    client=addresses,
    headers=st.lists(st.sampled_from(HEADERS), max_size=6),
    lifespan=lifespans,
)
def test_scopes_are_those_of_a_batch_that_is_answered_at_once(
    root_path, is_in_front, scheme, server, client, headers, lifespan
):
    """
    With the app and the state of the lifespan, as a server puts them into each request.
    """
    request = batch_scope(
        path=f"{root_path if is_in_front else ''}/batch",
        root_path=root_path,
        scheme=scheme,
        server=server,
        client=client,
        headers=headers,
    )
    del request["state"]
    kept = {key: lifespan[key] for key in ("app", "litestar_app", "state") if key in lifespan}
    expected = ScopeTemplate({**request, **kept}).scope_for(an_operation(), CURRENT)
    scope = template_of(pack_caller(request), lifespan).scope_for(an_operation(), CURRENT)

    assert scope == expected


def test_nothing_else_of_the_request_is_kept():
    """
    What middleware has put into its scope ends with it, and its framing headers are not kept.
    """
    request = batch_scope(
        headers=HEADERS, state={"session": 1}, user=object(), auth=object(), app=object()
    )
    template = template_of(pack_caller(request), {"type": "lifespan", "state": {"pool": 2}})
    scope = template.scope_for(an_operation(headers=()), CURRENT)

    assert scope["state"] == {"pool": 2}
    assert not {"user", "auth", "app"} & set(scope)
    assert scope["headers"] == [HEADERS[0], HEADERS[1], HEADERS[2], HEADERS[4]]


def test_scopes_of_servers_that_leave_things_out():
    """
    All that ASGI does not require may be missing, and an address may be a list.
    """
    caller = pack_caller({"path": "/batch", "headers": [], "server": ["here", 80]})
    scope = template_of(caller, {}).scope_for(an_operation(), CURRENT)

    assert scope["path"] == "/ä b"
    assert (scope["root_path"], scope["scheme"]) == ("", "http")
    assert (scope["server"], scope["client"]) == (("here", 80), None)
    assert "state" not in scope


@pytest.mark.parametrize(
    "rubbish", [b"", b"\xc1", b"\x90\x00", b"null", b"\x91\x90", pack_caller(batch_scope())]
)
def test_bytes_that_are_not_operations_are_told(rubbish):
    """
    Also where they come after a chunk that is sound.
    """
    chunks = [*pack_operations([an_operation()]), rubbish]

    with pytest.raises(msgspec.DecodeError):
        list(unpack_operations(chunks))


@pytest.mark.parametrize("rubbish", [b"", b"\xc1", b"\x90", *pack_operations([an_operation()])])
def test_bytes_that_are_no_caller_are_told(rubbish):
    """
    No scope is made up for them.
    """
    with pytest.raises(msgspec.DecodeError):
        template_of(rubbish, {})


def spoiled(value):
    """
    *value* with each of its bytes changed in turn, in all ways.
    """
    for place in range(len(value)):
        for change in range(1, 256):
            yield value[:place] + bytes([value[place] ^ change]) + value[place + 1 :]


def test_t43_operations_with_a_changed_byte_are_operations_or_cannot_be_read():
    """
    T43: where nothing is sealed, what cannot be told from a batch is one; there is no third way.
    """
    (chunk,) = pack_operations([an_operation(), an_operation(index=1, id="ö", path="/ä?")])
    kinds = set()
    for each in spoiled(chunk):
        try:
            found = list(unpack_operations([each]))
            check_whole(found, range(2))
        except msgspec.DecodeError:
            kinds.add("refused")
        else:
            kinds |= {each.method for each in found}

    assert kinds == {"refused", "POST"}


def test_t43_a_caller_with_a_changed_byte_is_one_or_cannot_be_read():
    """
    T43: whatever the byte is, reading it does nothing else.
    """
    caller = pack_caller({**batch_scope(), "client": ("1.2.3.4", 5)})
    refused = 0
    for each in spoiled(caller):
        try:
            template_of(each, {}).scope_for(an_operation(), CURRENT)
        except msgspec.DecodeError:
            refused += 1

    assert refused > 0


def test_t43_a_key_that_cannot_be_one_cannot_be_read():
    """
    T43: a mapping as the key of another one, where an address should be.
    """
    address = b"\x91\x81\x80\x01"
    caller = b"\x96\xa0\xa0\xa4http" + address + b"\xc0\x90"
    with pytest.raises(msgspec.DecodeError):
        template_of(caller, {})


@pytest.mark.parametrize("indexes", [[0, 0], [1, 0], [0], [0, 1, 2], [-1, 0]])
def test_t43_operations_of_a_batch_are_whole(indexes):
    """
    T43: a batch with a gap, or with an operation twice, would never come to its end.
    """
    with pytest.raises(msgspec.DecodeError):
        check_whole([an_operation(index=index) for index in indexes], range(2))
