"""
The native dialect, refusing: every problem at once, each with its place, a code and a sentence.
"""

import json
import time
import tracemalloc

import pytest

from asgi_batch._problem import Problem
from asgi_batch.errors import (
    AsgiBatchError,
    BatchRefused,
    ConfigurationError,
    DuplicateKey,
    InvalidBatch,
    InvalidJSON,
    JSONTooDeep,
    MethodNotAllowed,
    OperationAborted,
)
from pure import RULES, refusal_of, with_rules

GOOD = {"method": "GET", "path": "/"}
KNOWN = "method, path, id, headers, body, bodyEncoding, timeout"


def refusal(envelope, rules=RULES):
    return refusal_of(json.dumps(envelope).encode(), rules)


def problems(*operations, rules=RULES, **envelope):
    """
    The problems of a batch of *operations*.
    """
    refused = refusal({"operations": list(operations), **envelope}, rules)
    assert (refused["status"], refused["code"]) == (422, "invalid_batch")
    return refused["errors"]


def the_problem(**members):
    """
    The one problem of an operation that is sound but for *members*, as the second of two.
    """
    found = problems(GOOD, {**GOOD, **members})
    assert len(found) == 1
    assert found[0].pop("index") == 1
    return found[0]


class TestDocument:
    @pytest.mark.parametrize("document", [b"[]", b"null", b"7", b'"x"', b"true", b"[{}]"])
    def test_t27_no_object(self, document):
        """
        T27: the envelope is an object.
        """
        assert refusal_of(document) == {
            "type": "about:blank",
            "title": "Invalid batch",
            "status": 422,
            "code": "invalid_batch",
            "detail": "1 problem; nothing was executed.",
            "errors": [
                {
                    "pointer": "",
                    "code": "invalid_operation",
                    "detail": 'The body must be an object: {"operations": […]}.',
                }
            ],
        }

    @pytest.mark.parametrize(
        "envelope",
        [{}, {"operations": None}, {"operations": {}}, {"operations": "x"}, {"operations": 7}],
    )
    def test_t27_no_operations(self, envelope):
        """
        T27: operations is required and an array.
        """
        assert refusal(envelope)["errors"] == [
            {
                "pointer": "/operations",
                "code": "invalid_operation",
                "detail": "operations is required; it must be an array.",
            }
        ]

    def test_t27_an_empty_batch(self):
        """
        T27: nothing to do is a mistake, and no other mistake hides it.
        """
        empty = {
            "pointer": "/operations",
            "code": "empty_batch",
            "detail": "A batch must have at least one operation.",
        }
        refused = refusal({"operations": []})

        assert refused["detail"] == "1 problem; nothing was executed."
        assert refused["errors"] == [empty]
        assert empty in problems(onError=7)
        assert empty in problems(x=1)

    @pytest.mark.parametrize("value", ["", "Stop", "abort", None, True, 7, [], {}])
    def test_t27_on_error(self, value):
        """
        T27: onError has two values.
        """
        assert problems(GOOD, onError=value) == [
            {
                "pointer": "/onError",
                "code": "invalid_operation",
                "detail": 'onError must be "continue" or "stop".',
            }
        ]

    @pytest.mark.parametrize(
        ("name", "pointer", "hint"),
        [
            ("operation", "/operation", "Did you mean operations?"),
            ("onerror", "/onerror", "Did you mean onError?"),
            ("x", "/x", "Known are operations, onError, atomic."),
            ("", "/", "Known are operations, onError, atomic."),
            ("a/b~c", "/a~1b~0c", "Known are operations, onError, atomic."),
        ],
    )
    def test_t27_unknown_members(self, name, pointer, hint):
        """
        T27: a member nobody knows is a typing mistake that must not pass.
        """
        assert problems(GOOD, **{name: 1}) == [
            {
                "pointer": pointer,
                "code": "unknown_field",
                "detail": f"This member is not known. {hint}",
            }
        ]

    def test_t27_without_operations_the_other_mistakes_are_told_too(self):
        """
        T27: what is wrong with the envelope comes in one answer.
        """
        found = refusal({"x": 1, "onError": 1})["errors"]

        assert [each["pointer"] for each in found] == ["/x", "/onError", "/operations"]

    def test_t35_a_document_of_very_many_members_is_told_of_one_problem(self):
        """
        T26, T35: no memory and no time is spent on a document that nobody wrote by hand.
        """
        few = b'{"operations":[{"method":"GET","path":7,"body":[' + b"1," * 199_998 + b"1]}]}"
        many = b'{"operations":[{"method":"GET","path":7,"body":[' + b"1," * 199_999 + b"1]}]}"

        assert refusal_of(few)["errors"][0]["detail"] == "path must be a string."
        assert refusal_of(many)["errors"] == [
            {
                "pointer": "",
                "code": "invalid_operation",
                "detail": "Expected `str`, got `int` - at `$.operations[0].path`.",
            }
        ]

    @pytest.mark.parametrize("operation", [b"{},", b'{"method":"GET","path":"/"},', b"0,", b"[],"])
    def test_t26_very_many_operations_cost_little_memory(self, operation):
        """
        T26, T28: a refused batch takes no more memory than a few times its own size.
        """
        document = b'{"operations":[' + operation * 250_000 + b"{}]}"
        tracemalloc.start()
        try:
            refused = refusal_of(document)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

        assert refused["code"] in ("too_many_operations", "invalid_batch")
        assert peak < 15 * len(document)

    def test_t35_very_many_unknown_members_are_refused_quickly(self):
        """
        T35: problems that nobody is shown cost next to nothing.
        """
        members = ",".join(f'"methodpathid{number:06}":1' for number in range(100_000))
        started = time.thread_time()
        refused = refusal_of(f'{{"operations":[{{{members}}}]}}'.encode())
        took = time.thread_time() - started

        assert [each["pointer"] for each in refused["errors"]] == [
            *(f"/operations/0/methodpathid{number:06}" for number in range(5)),
            "/operations/0",
            "/operations/0/method",
            "/operations/0/path",
        ]
        assert took < 0.6

    @pytest.mark.parametrize("count", [5, 6, 7])
    def test_t27_many_unknown_members(self, count):
        """
        T27: five are named, and the rest are counted.
        """
        refused = refusal({"operations": [GOOD], **{f"x{n}": 1 for n in range(count)}})
        more = {
            "pointer": "",
            "code": "unknown_field",
            "detail": f"{count - 5} more members are not known."
            " Known are operations, onError, atomic.",
        }

        assert [each["pointer"] for each in refused["errors"][:5]] == [f"/x{n}" for n in range(5)]
        assert refused["errors"][5:] == ([more] if count > 5 else [])


class TestOperation:
    @pytest.mark.parametrize("operation", [None, 7, "GET /", [], True, 1.5])
    def test_t27_no_object(self, operation):
        """
        T27: an operation is an object.
        """
        assert problems(GOOD, operation) == [
            {
                "index": 1,
                "pointer": "/operations/1",
                "code": "invalid_operation",
                "detail": "An operation must be an object with method and path.",
            }
        ]

    def test_t27_an_empty_object(self):
        """
        T27: both required members are asked for.
        """
        assert problems({}) == [
            {
                "index": 0,
                "id": "0",
                "pointer": "/operations/0/method",
                "code": "method_not_allowed",
                "detail": "method is required; it must be one of"
                " GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS.",
            },
            {
                "index": 0,
                "id": "0",
                "pointer": "/operations/0/path",
                "code": "invalid_operation",
                "detail": "path is required.",
            },
        ]

    @pytest.mark.parametrize(
        "method",
        ["get", "Get", "TRACE", "CONNECT", "HEADER", "", " GET", "GET ", "GET\n", "PROPFIND", "*"],
    )
    def test_t6_methods(self, method):
        """
        T6: TRACE, CONNECT, small letters and unknown methods.
        """
        assert the_problem(method=method) == {
            "id": "1",
            "pointer": "/operations/1/method",
            "code": "method_not_allowed",
            "detail": "method must be one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS,"
            " in capitals.",
        }

    @pytest.mark.parametrize(
        ("name", "value", "expected"),
        [
            ("method", 7, "a string"),
            ("method", None, "a string"),
            ("path", 7, "a string"),
            ("path", ["/"], "a string"),
            ("headers", None, "an object whose values are strings"),
            ("headers", [], "an object whose values are strings"),
            ("headers", {"accept": 1}, "an object whose values are strings"),
            ("headers", {"accept": ["a"]}, "an object whose values are strings"),
        ],
    )
    def test_t27_wrong_types(self, name, value, expected):
        """
        T27: each member has one type, and a wrong one is told once.
        """
        assert the_problem(**{name: value}) == {
            "id": "1",
            "pointer": f"/operations/1/{name}",
            "code": "invalid_operation",
            "detail": f"{name} must be {expected}.",
        }

    @pytest.mark.parametrize("value", [7, None, True, [], {}])
    def test_t27_an_id_of_the_wrong_type(self, value):
        """
        T27: a number is no id.
        """
        assert the_problem(id=value)["detail"] == "id must be a string."

    @pytest.mark.parametrize("value", [7, None, True, [], {}])
    def test_t27_a_body_encoding_of_the_wrong_type(self, value):
        """
        T27: a wrong encoding is told once, with and without a body.
        """
        expected = {
            "id": "1",
            "pointer": "/operations/1/bodyEncoding",
            "code": "invalid_operation",
            "detail": "bodyEncoding must be a string.",
        }

        assert the_problem(bodyEncoding=value) == expected
        assert the_problem(bodyEncoding=value, body=1) == expected

    @pytest.mark.parametrize(
        "value", [True, False, None, "5", [5], {}, 0, -1, -0.0, 30.001, 31, 1e9]
    )
    def test_t27_timeouts(self, value):
        """
        T27: true is no number, and no operation may wait for longer than the limit.
        """
        assert the_problem(timeout=value) == {
            "id": "1",
            "pointer": "/operations/1/timeout",
            "code": "invalid_operation",
            "detail": "timeout must be a number of seconds above 0 and at most 30.",
        }

    @pytest.mark.parametrize("name", ["", "a\n", "\0", "\u200b", "\u2028", "x" * 129, "\x7f"])
    def test_t27_ids(self, name):
        """
        T27: an id that cannot be used is not repeated in the answer.
        """
        assert the_problem(id=name) == {
            "id": "1",
            "pointer": "/operations/1/id",
            "code": "invalid_operation",
            "detail": "An id must have 1 to 128 printable characters.",
        }

    def test_t29_ids_that_are_taken(self):
        """
        T29: ids are unique, also those that operations get from their index.
        """
        a, b = {**GOOD, "id": "a"}, {**GOOD, "id": "3"}
        found = problems(a, b, a, GOOD, {**GOOD, "id": "0"}, a)

        assert [(each["index"], each["id"], each["pointer"], each["code"]) for each in found] == [
            (2, "a", "/operations/2/id", "duplicate_id"),
            (3, "3", "/operations/3/id", "duplicate_id"),
            (5, "a", "/operations/5/id", "duplicate_id"),
        ]
        assert [each["detail"] for each in found] == [
            "Operation 0 has this id already; ids must be unique.",
            "Operation 1 has this id already; ids must be unique.",
            "Operation 0 has this id already; ids must be unique.",
        ]

    def test_t29_an_unusable_id_that_is_taken(self):
        """
        T29: a long id is told to be too long each time, and never repeated.
        """
        long = {**GOOD, "id": "x" * 129}

        assert [(each["id"], each["code"]) for each in problems(long, long)] == [
            ("0", "invalid_operation"),
            ("1", "invalid_operation"),
        ]

    @pytest.mark.parametrize(
        ("path", "code"),
        [
            ("users", "invalid_path"),
            ("http://evil/x", "invalid_path"),
            ("/a/../b", "invalid_path"),
            ("/a?b c", "invalid_query"),
            ("/batch", "nested_batch"),
        ],
    )
    def test_t7_t10_t11_t17_paths(self, path, code):
        """
        T7, T10, T11, T17: what the path rules say becomes a problem of the path.
        """
        problem = the_problem(path=path)

        assert (problem["id"], problem["pointer"]) == ("1", "/operations/1/path")
        assert problem["code"] == code

    @pytest.mark.parametrize(
        ("headers", "pointer", "code"),
        [
            ({"cookie": "a=b"}, "headers/cookie", "header_not_allowed"),
            ({"Content-Length": "1"}, "headers/Content-Length", "header_not_allowed"),
            ({"X-HTTP-Method": "PUT"}, "headers/X-HTTP-Method", "header_not_allowed"),
            ({"accept": "a\r\nb"}, "headers/accept", "invalid_header"),
            ({"a/b~": "c"}, "headers/a~1b~0", "invalid_header"),
            ({f"x{n}": "" for n in range(65)}, "headers", "headers_too_large"),
            ({"accept": "x" * 8192}, "headers", "headers_too_large"),
        ],
    )
    def test_t4_t6_t13_t14_t16_headers(self, headers, pointer, code):
        """
        T4, T6, T13, T14, T16: what the header rules say becomes a problem of that header.
        """
        problem = the_problem(headers=headers)

        assert (problem["id"], problem["pointer"]) == ("1", f"/operations/1/{pointer}")
        assert problem["code"] == code

    @pytest.mark.parametrize("encoding", ["", "JSON", "utf-8", "hex"])
    def test_t27_body_encodings(self, encoding):
        """
        T27: three encodings and no others.
        """
        assert the_problem(method="PUT", body="x", bodyEncoding=encoding) == {
            "id": "1",
            "pointer": "/operations/1/bodyEncoding",
            "code": "invalid_operation",
            "detail": "bodyEncoding must be json, text or base64.",
        }

    @pytest.mark.parametrize("encoding", ["json", "text", "base64"])
    def test_t27_an_encoding_of_no_body(self, encoding):
        """
        T27: an encoding without a body is a forgotten body.
        """
        assert the_problem(method="PUT", bodyEncoding=encoding) == {
            "id": "1",
            "pointer": "/operations/1/bodyEncoding",
            "code": "invalid_operation",
            "detail": "bodyEncoding says how body is written, and there is no body.",
        }

    def test_t27_an_unknown_encoding_of_no_body(self):
        """
        T27: these are two mistakes.
        """
        found = problems({**GOOD, "bodyEncoding": "hex"})

        assert [each["pointer"] for each in found] == ["/operations/0/bodyEncoding"] * 2

    @pytest.mark.parametrize("encoding", ["text", "base64"])
    @pytest.mark.parametrize("body", [None, 7, True, [], {"a": "b"}])
    def test_t27_bodies_that_are_no_strings(self, encoding, body):
        """
        T27: only JSON may be anything.
        """
        problem = the_problem(body=body, bodyEncoding=encoding)

        assert (problem["id"], problem["pointer"]) == ("1", "/operations/1/body")
        assert problem["code"] == "invalid_operation"
        assert problem["detail"] == f"With bodyEncoding {encoding}, body must be a string."

    @pytest.mark.parametrize(
        "body",
        ["A", "AA", "AAA", "AA=", "A===", "AA==AA==", "A A=", "AAA=\n", "-_8=", "ä", "AAAA="],
    )
    def test_t27_bodies_that_are_no_base64(self, body):
        """
        T27: no letter is dropped and none is added.
        """
        assert the_problem(body=body, bodyEncoding="base64")["detail"] == (
            "body is not base64 (RFC 4648 section 4, with padding)."
        )

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("Path", "Did you mean path?"),
            ("header", "Did you mean headers?"),
            ("body_encoding", "Did you mean bodyEncoding?"),
            ("url", f"Known are {KNOWN}."),
            ("x" * 64, f"Known are {KNOWN}."),
            ("x" * 65, f"Known are {KNOWN}."),
        ],
    )
    def test_t27_unknown_members(self, name, hint):
        """
        T27: with a hint where one can be given.
        """
        assert the_problem(**{name: 1}) == {
            "id": "1",
            "pointer": f"/operations/1/{name[:64]}",
            "code": "unknown_field",
            "detail": f"This member is not known. {hint}",
        }


class TestAllProblemsAtOnce:
    def test_t27_of_all_operations(self):
        """
        T27: a wrong type in one place does not hide what is wrong in another.
        """
        refused = refusal(
            {
                "operations": [
                    {"method": "get", "path": "x", "timeout": 0, "bodyEncoding": "hex", "body": 1},
                    GOOD,
                    7,
                    {"method": 7, "path": 7, "id": 7, "headers": {"cookie": "", "host": ""}},
                    {"path": "/a b", "pth": 1, "id": "y"},
                    GOOD,
                ],
                "onError": "never",
                "more": 1,
            }
        )

        assert refused["status"] == 422
        assert refused["detail"] == "15 problems; nothing was executed."
        assert [
            (each.get("index"), each.get("id"), each["pointer"], each["code"])
            for each in refused["errors"]
        ] == [
            (None, None, "/more", "unknown_field"),
            (None, None, "/onError", "invalid_operation"),
            (0, "0", "/operations/0/method", "method_not_allowed"),
            (0, "0", "/operations/0/path", "invalid_path"),
            (0, "0", "/operations/0/timeout", "invalid_operation"),
            (0, "0", "/operations/0/bodyEncoding", "invalid_operation"),
            (2, None, "/operations/2", "invalid_operation"),
            (3, "3", "/operations/3/method", "invalid_operation"),
            (3, "3", "/operations/3/path", "invalid_operation"),
            (3, "3", "/operations/3/id", "invalid_operation"),
            (3, "3", "/operations/3/headers/cookie", "header_not_allowed"),
            (3, "3", "/operations/3/headers/host", "header_not_allowed"),
            (4, "y", "/operations/4/pth", "unknown_field"),
            (4, "y", "/operations/4/method", "method_not_allowed"),
            (4, "y", "/operations/4/path", "invalid_path"),
        ]

    def test_t27_both_ways_of_looking_tell_the_same(self):
        """
        T27: what is told of an operation does not depend on the mistakes of another.
        """
        faulty = [
            {"method": "get", "path": "/a//b", "headers": {"host": "x"}, "id": "a"},
            {"method": "PUT", "path": "/", "bodyEncoding": "text", "body": 7, "id": "a"},
        ]
        alone = problems(*faulty)
        beside = problems(*faulty, 7)

        assert beside[:-1] == alone
        assert len(alone) == 5

    def test_problems_of_operations_only(self):
        """
        Where the batch itself is sound, the sentence says how many operations are not.
        """
        operations = [{"method": "get", "path": "x"}, GOOD, {"method": "GET", "path": "x"}]

        assert refusal({"operations": operations})["detail"] == (
            "3 problems in 2 of 3 operations; nothing was executed."
        )

    def test_one_problem_of_one_operation(self):
        """
        The sentence counts as a person would.
        """
        assert refusal({"operations": [{"method": "GET", "path": "x"}]})["detail"] == (
            "1 problem in 1 of 1 operations; nothing was executed."
        )

    @pytest.mark.parametrize("count", [1, 99, 100])
    def test_the_list_boundary(self, count):
        """
        A hundred problems are listed in full.
        """
        refused = refusal({"operations": [{"method": "GET", "path": "x"}] * count})

        assert len(refused["errors"]) == count
        assert "omitted" not in refused
        assert "listed" not in refused["detail"]

    def test_the_list_is_cut(self):
        """
        The hundred and first problem is counted, not shown.
        """
        refused = refusal({"operations": [{"method": "GET", "path": "x"}] * 101})

        assert [each["index"] for each in refused["errors"]] == list(range(100))
        assert refused["omitted"] == 1
        assert refused["detail"] == (
            "101 problems in 101 of 101 operations; nothing was executed. The first 100 are listed."
        )

    def test_the_length_of_the_list_is_a_rule(self):
        """
        Each operation may have several problems.
        """
        refused = refusal({"operations": [{}, {}]}, with_rules(max_problems=3))

        assert [each["pointer"] for each in refused["errors"]] == [
            "/operations/0/method",
            "/operations/0/path",
            "/operations/1/method",
        ]
        assert refused["omitted"] == 1

    def test_no_secret_and_no_value_is_repeated(self):
        """
        T46: a refusal names places and not what stood there.
        """
        operation = {
            "method": "canary1",
            "path": "/canary2//x",
            "headers": {"cookie": "canary3"},
            "body": "canary4",
            "bodyEncoding": "canary5",
        }

        assert "canary" not in json.dumps(refusal({"operations": [operation], "onError": "canary"}))


class TestErrors:
    def test_the_tree(self):
        """
        One root; a wrong argument is a ValueError, and a late send an OSError.
        """
        assert issubclass(ConfigurationError, (AsgiBatchError, ValueError))
        assert issubclass(OperationAborted, AsgiBatchError)
        assert issubclass(OperationAborted, OSError)
        assert issubclass(InvalidBatch, BatchRefused)

    def test_codes_are_unique_and_told_in_the_module(self):
        """
        Every refusal has its own code and stands in the table of the module.
        """
        import asgi_batch.errors as errors

        refusals = BatchRefused.__subclasses__()

        assert len({each.code for each in refusals}) == len(refusals)
        for each in refusals:
            assert f"{each.__name__} " in errors.__doc__
            assert f"{each.status} {each.code}" in errors.__doc__

    def test_a_refusal_says_what_it_is(self):
        """
        A refusal raised in code reads as its sentence.
        """
        refused = BatchRefused("Change this.", limits={"max": 1})

        assert str(refused) == "Change this."
        assert refused.as_dict() == {
            "type": "about:blank",
            "title": "Batch refused",
            "status": 400,
            "code": "batch_refused",
            "detail": "Change this.",
            "max": 1,
        }
        assert "max" not in BatchRefused("Change this.").as_dict()

    @pytest.mark.parametrize(
        ("refusal", "title"),
        [
            (InvalidJSON, "Invalid JSON"),
            (JSONTooDeep, "JSON too deep"),
            (DuplicateKey, "Duplicate key"),
            (MethodNotAllowed, "Method not allowed"),
        ],
    )
    def test_titles(self, refusal, title):
        """
        The title is the code in words.
        """
        assert refusal("Change this.").as_dict()["title"] == title

    def test_the_number_of_operations_may_be_unknown(self):
        """
        Without a total the sentence does not speak of operations.
        """
        problem = Problem(code="c", detail="d", pointer="/x", index=0)

        assert InvalidBatch([problem], total=None, shown=1).detail == (
            "1 problem; nothing was executed."
        )
        assert problem.as_dict() == {"index": 0, "pointer": "/x", "code": "c", "detail": "d"}


@pytest.mark.parametrize(("length", "told"), [(1, "x"), (128, "x" * 128), (129, "0")])
def test_problems_name_the_operation_by_its_id_where_that_is_usable(length, told):
    """
    The longest id, too; where it is not usable, by its index.
    """
    found = problems({**GOOD, "id": "x" * length, "method": "get"})

    assert {each["id"] for each in found} == {told}
