"""
What the library says of the batch endpoint in OpenAPI is so, also as a part of another document.
"""

import json
import re
from dataclasses import fields

import jsonschema_rs
import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import given, settings
from schemathesis.checks import CHECKS, load_all_checks
from starlette.middleware.gzip import GZipMiddleware

from apps.described import api, batches
from apps.various import app
from asgi_batch import BatchMiddleware, ConfigurationError, Limits
from asgi_batch._core.failures import Failure
from asgi_batch._core.headers import OPERATION_HEADERS
from asgi_batch.contrib.fastapi import add_to_docs
from asgi_batch.dialects._native_checks import METHODS
from asgi_batch.errors import BatchRefused
from dialects.documents import operations
from pure import RULES, refusal_of
from servers import serving
from support import Exchange, batch_scope, call, http_scope, submit

SPEC = app.openapi()
OPERATIONS = [
    operation
    for path in SPEC["paths"].values()
    for method, operation in path.items()
    if method != "parameters"
]
_PREFIX = "asgi_batch."
SCHEMAS = {
    name.removeprefix(_PREFIX): schema for name, schema in SPEC["components"]["schemas"].items()
}
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
schema = schemathesis.openapi.from_dict(SPEC)
# As FastAPI hands it out, with another path and other limits.
served_schema = schemathesis.openapi.from_dict(api.openapi()).include(path_regex="^/v1/many")


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


@pytest.fixture(scope="module")
def described_server(tmp_path_factory):
    """
    A real server with a FastAPI app that shows its batch endpoint.
    """
    folder = tmp_path_factory.mktemp("described")
    with serving("uvicorn-httptools-uvloop", "apps.described:batches", folder) as running:
        yield running
        assert "Traceback" not in running.log()


@schema.parametrize()
@settings(max_examples=max(settings.default.max_examples, 150))
def test_t27_a_real_server_keeps_to_the_schema(case, server):
    """
    T27: for whatever the schema allows and forbids, the answer is one that it promises.
    """
    case.call_and_validate(base_url=server.url, checks=CHECKED)


@served_schema.parametrize()
@settings(max_examples=max(settings.default.max_examples // 2, 50))
def test_t27_a_real_server_keeps_to_the_schema_that_it_serves(case, described_server):
    """
    T27: the same for a batch endpoint at another path, with other limits and with a page.
    """
    case.call_and_validate(base_url=described_server.url, checks=CHECKED)


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

        assert SCHEMAS["Batch"]["properties"]["operations"]["maxItems"] == Limits().max_operations
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

    def test_the_examples_conform(self):
        """
        What is shown is what is said, of schemas and of each refusal.
        """
        shown = [
            (described, example)
            for described in SCHEMAS.values()
            for example in described.get("examples", [])
        ]
        for operation in OPERATIONS:
            for response in operation["responses"].values():
                for content in response.get("content", {}).values():
                    examples = content.get("examples", {}).values()
                    shown += [(content["schema"], example["value"]) for example in examples]
        for described, example in shown:
            validator(described).validate(example)

        assert len(shown) > 60

    def test_each_code_has_an_example(self):
        """
        With the title and the status under which it is sent.
        """
        for operation in OPERATIONS:
            for status, response in operation["responses"].items():
                content = response.get("content", {}).get("application/problem+json", {})
                for code, example in content.get("examples", {}).items():
                    assert example["value"]["code"] == code
                    assert example["value"]["status"] == int(status)
                    assert f'"{code}"' in json.dumps([content["schema"], SCHEMAS["InvalidBatch"]])


class TestSettings:
    def test_path_and_limits_are_those_of_the_middleware(self):
        """
        Not the defaults, and in the examples as well.
        """
        described = batches.openapi()
        schemas = described["components"]["schemas"]
        operation = schemas["asgi_batch.Operation"]["properties"]

        assert all(path.startswith("/v1/many") for path in described["paths"])
        assert schemas["asgi_batch.Batch"]["properties"]["operations"]["maxItems"] == 20
        assert operation["timeout"]["maximum"] == 2.5
        assert operation["headers"]["maxProperties"] == 3
        assert "x-tenant" in operation["headers"]["description"]
        assert schemas["asgi_batch.Accepted"]["examples"][0]["statusUrl"].startswith("/v1/many/")
        assert "{{" not in json.dumps(described)

    async def test_limits_conform(self):
        """
        What OPTIONS tells is described, and is the example.
        """
        answer = await call(batches, Exchange(http_scope("OPTIONS", "/v1/many")))
        described = batches.openapi()["components"]["schemas"]["asgi_batch.Limits"]

        validator(SCHEMAS["Limits"]).validate(answer.json())
        assert described["examples"] == [answer.json()]

    def test_each_description_is_a_new_one(self):
        """
        Whoever changes one changes no other.
        """
        app.openapi()["paths"].clear()

        assert app.openapi() == SPEC


class TestMerging:
    def test_both_are_there(self):
        """
        What the document had stays, and it is not changed itself.
        """
        document = {
            "openapi": "3.1.1",
            "info": {"title": "Users", "version": "7"},
            "paths": {"/users": {"get": {}}},
            "components": {
                "schemas": {"Batch": {}, "Operation": {}},
                "securitySchemes": {"key": {}},
            },
        }
        before = json.dumps(document)
        both = app.openapi(document)

        assert json.dumps(document) == before
        assert both["info"] == document["info"]
        assert both["openapi"] == "3.1.1"
        assert both["paths"] == {**document["paths"], **SPEC["paths"]}
        assert both["components"] == {
            "schemas": {**document["components"]["schemas"], **SPEC["components"]["schemas"]},
            "securitySchemes": {"key": {}},
            "headers": SPEC["components"]["headers"],
        }

    @pytest.mark.parametrize("version", ["3.0.3", "2.0", None, 3.1, "3.2.0"])
    def test_another_version_is_told(self, version):
        """
        Rather than to write what nobody can read.
        """
        with pytest.raises(ConfigurationError, match=r"^openapi: .*: batches are described in "):
            app.openapi({"openapi": version})

    async def test_fastapi_shows_it(self):
        """
        In its document, under its own title, beside its own routes, with all that refers to it.
        """
        document = (await call(batches, Exchange(http_scope("GET", "/openapi.json")))).json()
        page = await call(batches, Exchange(http_scope("GET", "/docs")))
        referred = set(re.findall(r'"#/components/(\w+)/([^"]+)"', json.dumps(document)))

        assert page.status == 200
        assert document["info"]["title"] == "Users"
        assert set(document["paths"]) == {"/users/{number}", *batches.openapi()["paths"]}
        assert {"asgi_batch.Batch", "Operation"} <= set(document["components"]["schemas"])
        assert all(name in document["components"][kind] for kind, name in referred)

    def test_fastapi_with_added_middleware(self):
        """
        The settings are those that FastAPI was given.
        """
        api = FastAPI()
        api.add_middleware(GZipMiddleware)
        api.add_middleware(BatchMiddleware, path="/many", limits=Limits(max_operations=200))
        add_to_docs(api)
        batch = api.openapi()["components"]["schemas"]["asgi_batch.Batch"]

        assert "/many/{id}/retry" in api.openapi()["paths"]
        assert batch["properties"]["operations"]["maxItems"] == 200

    def test_fastapi_with_a_document_of_its_own(self):
        """
        What an app does to its document is done.
        """
        api = FastAPI()
        api.openapi = lambda: {"openapi": "3.1.0", "info": {}, "x-own": True}
        add_to_docs(api, app)

        assert api.openapi()["x-own"]
        assert "/batch" in api.openapi()["paths"]

    def test_fastapi_without_a_batch_endpoint(self):
        """
        Nothing to show is a mistake.
        """
        api = FastAPI()
        api.add_middleware(GZipMiddleware)
        with pytest.raises(ConfigurationError, match="pass the BatchMiddleware as well"):
            add_to_docs(api)
