"""
`docs/openapi.json` says of the batch endpoint what is so.
"""

import json
from dataclasses import fields
from pathlib import Path

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis.checks import CHECKS, load_all_checks

from apps.various import app
from asgi_batch import Limits
from asgi_batch._core.failures import Failure
from asgi_batch._core.headers import OPERATION_HEADERS
from asgi_batch.dialects._native_checks import METHODS
from asgi_batch.errors import BatchRefused
from dialects.documents import operations
from pure import RULES, refusal_of
from servers import serving
from support import Exchange, batch_scope, call, submit

FILE = Path(__file__).parent.parent / "docs" / "openapi.json"
SPEC = json.loads(FILE.read_text())
OPERATIONS = [
    operation
    for path in SPEC["paths"].values()
    for method, operation in path.items()
    if method != "parameters"
]
SCHEMAS = SPEC["components"]["schemas"]
POST = SPEC["paths"]["/batch"]["post"]
load_all_checks()
# What the schema can say of a request is less than what is checked, so that a request may
# conform to it and be refused. All other checks that make sense for one endpoint are made.
CHECKED = CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "unsupported_method",
        "allow_header_conformance",
    ]
)
schema = schemathesis.openapi.from_path(str(FILE))


def validator(schema):
    return jsonschema_rs.Draft202012Validator({**schema, "components": SPEC["components"]})


def response_schema(status):
    ((_, content),) = POST["responses"][str(status)]["content"].items()
    return content["schema"]


REQUEST = validator(SCHEMAS["Batch"])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """
    A real server with an app that answers in every way.
    """
    folder = tmp_path_factory.mktemp("openapi")
    with serving("uvicorn-httptools-uvloop", "apps.various:app", folder) as running:
        yield running
        assert "Traceback" not in running.log()


@schema.parametrize()
@settings(max_examples=max(settings.default.max_examples, 150))
def test_t27_a_real_server_keeps_to_the_schema(case, server):
    """
    T27: for whatever the schema allows and forbids, the answer is one that it promises.
    """
    case.call_and_validate(base_url=server.url, checks=CHECKED)


class TestRequests:
    @given(operations)
    def test_valid_batches_conform(self, described):
        """
        The schema forbids nothing that is accepted.
        """
        plain = [
            {
                name: json.loads(value) if name in ("body", "timeout") else value
                for name, value in operation.items()
            }
            for operation in described
        ]

        REQUEST.validate({"operations": plain})

    @pytest.mark.parametrize(
        "envelope",
        [
            [],
            {},
            {"operations": []},
            {"operations": [{}]},
            {"operations": [{"method": "GET"}]},
            {"operations": [{"method": "GET", "path": "/"}], "onError": "never"},
            {"operations": [{"method": "GET", "path": "/"}], "more": 1},
            {"operations": [{"method": "get", "path": "/"}]},
            {"operations": [{"method": "GET", "path": "x"}]},
            {"operations": [{"method": "GET", "path": "/", "more": 1}]},
            {"operations": [{"method": "GET", "path": "/", "id": ""}]},
            {"operations": [{"method": "GET", "path": "/", "id": "x" * 129}]},
            {"operations": [{"method": "GET", "path": "/", "headers": {"x_y": "z"}}]},
            {"operations": [{"method": "GET", "path": "/", "headers": {"accept": " z"}}]},
            {"operations": [{"method": "GET", "path": "/", "headers": {"accept": 1}}]},
            {"operations": [{"method": "GET", "path": "/", "timeout": 0}]},
            {"operations": [{"method": "GET", "path": "/", "timeout": 30.5}]},
            {"operations": [{"method": "GET", "path": "/", "timeout": True}]},
            {"operations": [{"method": "PUT", "path": "/", "bodyEncoding": "json"}]},
            {"operations": [{"method": "PUT", "path": "/", "body": 1, "bodyEncoding": "text"}]},
            {"operations": [{"method": "PUT", "path": "/", "body": "A", "bodyEncoding": "base64"}]},
            {"operations": [{"method": "PUT", "path": "/", "body": "", "bodyEncoding": "hex"}]},
        ],
    )
    def test_what_the_schema_forbids_is_refused(self, envelope):
        """
        And every refusal conforms to its own schema.
        """
        refusal = refusal_of(json.dumps(envelope).encode())

        assert not REQUEST.is_valid(envelope)
        validator(response_schema(422)).validate(refusal)

    def test_numbers_and_names_are_those_of_the_library(self):
        """
        A default that changes must change here too.
        """
        operation = SCHEMAS["Operation"]["properties"]
        described = " ".join(
            [operation["path"]["description"], operation["headers"]["description"]]
        )

        assert SCHEMAS["Batch"]["properties"]["operations"]["maxItems"] == Limits().sync_operations
        assert SCHEMAS["InvalidBatch"]["properties"]["errors"]["maxItems"] == RULES.max_problems
        assert operation["timeout"]["maximum"] == RULES.operation_timeout
        assert operation["headers"]["maxProperties"] == RULES.max_headers
        assert operation["method"]["enum"] == list(METHODS)
        for text in [*OPERATION_HEADERS, RULES.max_path_bytes, RULES.max_query_bytes]:
            assert str(text) in described
        assert {"max_path_bytes", "max_query_bytes"} <= {field.name for field in fields(Limits)}


class TestAnswers:
    def test_every_refusal_is_in_the_schema(self):
        """
        Each code stands under its status, and no code is there that nothing raises.
        """
        described = {"invalid_batch": 422}
        for operation in OPERATIONS:
            for status, response in operation["responses"].items():
                text = json.dumps(response)
                for refusal in BatchRefused.__subclasses__():
                    if f'"{refusal.code}"' in text:
                        assert described.setdefault(refusal.code, int(status)) == int(status)

        assert described == {each.code: each.status for each in BatchRefused.__subclasses__()}

    def test_every_failure_is_in_the_schema(self):
        """
        The same for the codes of results.
        """
        codes = SCHEMAS["Failure"]["properties"]["code"]["enum"]

        assert sorted(codes) == sorted({failure.code for failure in Failure})

    async def test_answers_of_every_kind_conform(self):
        """
        JSON, text, binary, nothing, errors, redirects and failures.
        """
        answer = validator(SCHEMAS["Answer"])
        paths = [f"GET /{number}" for number in range(100)]
        exchange = await submit(app, *paths)
        kinds = {
            (each["status"], each.get("encoding"), each.get("source")) for each in exchange.results
        }

        answer.validate(exchange.json())
        assert kinds == {
            (200, None, None),
            (200, "text", None),
            (200, "base64", None),
            (201, None, None),
            (302, None, None),
            (304, None, None),
            (404, None, None),
            (500, None, None),
            (502, None, "batch"),
        }

    @pytest.mark.parametrize(
        ("scope", "body", "status"),
        [
            (batch_scope(), b"{", 400),
            (batch_scope(), b'"\\ud800"', 400),
            (batch_scope(), b"[" * 9999, 400),
            (batch_scope(), b'{"operations":1,"operations":2}', 400),
            (batch_scope(method="GET"), b"", 405),
            (batch_scope(headers=[]), b"{}", 415),
            (batch_scope(), json.dumps({"operations": [0] * 1001}).encode(), 413),
            (batch_scope(), json.dumps({"operations": [0] * 101}).encode(), 422),
        ],
    )
    async def test_refusals_conform(self, scope, body, status):
        """
        Each refusal conforms to the schema of its status, and its headers are described.
        """
        exchange = await call(app, Exchange(scope, body))
        described = {name.lower() for name in POST["responses"][str(status)]["headers"]}

        assert exchange.status == status
        validator(response_schema(status)).validate(exchange.json())
        assert described <= set(exchange.headers)
        assert set(exchange.headers) - described <= {"content-type", "content-length", "connection"}

    @given(st.sampled_from(sorted(SCHEMAS)))
    def test_the_examples_conform(self, name):
        """
        What the file shows is what it says.
        """
        for example in SCHEMAS[name].get("examples", []):
            validator(SCHEMAS[name]).validate(example)
