"""
What the quick check for hidden members counts, and what a faulty operation becomes.
"""

import json

import msgspec
import pytest
from hypothesis import given

from asgi_batch.dialects._native_checks import OperationChecks
from asgi_batch.dialects._native_wire import WireOperation, accounted_size, decode_envelope
from asgi_batch.dialects._strict_json import has_hidden_members, solid_size
from dialects.documents import Source, Writer, operations, seeds
from pure import RULES


def difference(document):
    """
    How many bytes of *document* no member accounts for.
    """
    return solid_size(document) - accounted_size(decode_envelope(document))


class TestAccountedSize:
    @pytest.mark.parametrize(
        "document",
        [
            '{"operations":[]}',
            '{"operations":[{"method":"GET","path":"/"}]}',
            ' { "operations" : [ {"path":"/x","method":"GET"} , {"method":"PUT","path":"/"} ] } ',
            '{"onError":"stop","operations":[{"method":"GET","path":"/"}]}',
            '{"operations":[{"id":"ä","method":"GET","path":"/"},{"method":"GET","path":"/"}]}',
            '{"operations":[{"method":"GET","path":"/","headers":{}}]}',
            '{"operations":[{"method":"GET","path":"/","headers":{"a":"b c"}}]}',
            '{"operations":[{"method":"GET","path":"/","headers":{"a":"b","c":"d","e":""}}]}',
            '{"operations":[{"method":"PUT","path":"/","body": { "a" : [ 1 , "b c" ] } }]}',
            '{"operations":[{"method":"PUT","path":"/","body":1,"bodyEncoding":"json"}]}',
            '{"operations":[{"method":"PUT","path":"/","timeout":1.50},{"method":"PUT","path":"/"}]}',
            '{"operations":[{"method":"PUT","path":"/","body":"","timeout":2}]}',
        ],
    )
    def test_t23_a_plain_document_accounts_for_every_byte(self, document):
        """
        T23: it needs no second look.
        """
        assert difference(document.encode()) == 0

    @pytest.mark.parametrize(
        ("document", "more"),
        [
            ('{"operations":[],"operations":[]}', len(',"operations":[]')),
            ('{"operations":[{"method":"GET","path":"/","id":"a","id":"b"}]}', len('"id":"a",')),
            ('{"operations":[{"method":"GET","path":"\\/"}]}', 1),
            ('{"operations":[{"method":"GET","p\\u0061th":"/"}]}', 5),
            ('{"operations":[{"method":"GET","path":"/","headers":{"a":"\\t"}}]}', 2),
        ],
    )
    def test_t23_what_is_hidden_makes_a_document_longer(self, document, more):
        """
        T23: by as many bytes as are hidden.
        """
        assert difference(document.encode()) == more

    @given(operations, seeds)
    def test_t23_no_document_is_shorter_than_what_it_says(self, described, seed):
        """
        T23: so that nothing can make up for a hidden member.
        """
        assert difference(Writer(seed).write({"operations": described}).encode()) >= 0

    @given(operations)
    def test_t23_a_document_without_escapes_accounts_for_every_byte(self, described):
        """
        T23: as most clients write it.
        """
        plain = [
            {k: json.loads(v) if isinstance(v, Source) else v for k, v in operation.items()}
            for operation in described
        ]
        document = msgspec.json.encode({"operations": plain, "onError": "stop"})

        assert difference(document) == 0 or b"\\" in document


class TestHiddenMembers:
    @pytest.mark.parametrize(
        ("source", "is_hiding"),
        [
            (b"{}", False),
            (b" { } ", False),
            (b'{"a":1}', False),
            (b'{ "a b" : [ 1 , 2 ] , "c":"\\u0061" }', False),
            (b'{"a":1,"a":1}', True),
            (b'{"\\u0061":1}', True),
            (b'{"a":1,"b":2,"a":""}', True),
        ],
    )
    def test_t23_an_object_accounts_for_every_byte(self, source, is_hiding):
        """
        T23: names, values, quotes, colons, commas and braces.
        """
        members = msgspec.json.decode(source, type=dict[str, msgspec.Raw])

        assert has_hidden_members(source, members) is is_hiding


class TestFaultyOperations:
    @pytest.mark.parametrize(
        "members",
        [
            {"method": "get"},
            {"method": msgspec.UNSET},
            {"path": "x"},
            {"path": msgspec.UNSET},
            {"id": ""},
            {"headers": {"host": "x"}},
            {"timeout": msgspec.Raw(b"0")},
            {"bodyEncoding": "json"},
            {"body": msgspec.Raw(b"7"), "bodyEncoding": "text"},
        ],
    )
    def test_a_faulty_operation_is_none(self, members):
        """
        What is wrong is noted, and nothing half checked gets out.
        """
        checks = OperationChecks(RULES)
        operation = checks.check(0, WireOperation(**{"method": "PUT", "path": "/", **members}))

        assert operation is None
        assert len(checks.problems) == 1

    def test_a_fault_before_does_not_harm_the_next(self):
        """
        Problems of one operation are no problems of another.
        """
        checks = OperationChecks(RULES)
        checks.check(0, WireOperation(method="get", path="/"))

        assert checks.check(1, WireOperation(method="GET", path="/")) is not None
