"""
`BatchMiddleware`: its arguments, what a wrong one is told, and which requests are its own.
"""

import pytest

from asgi_batch import BatchMiddleware, ConfigurationError, GateStatistics, Limits
from support import Exchange, batch_body, batch_scope, call, http_scope, respond, submit


async def echo_scope(scope, receive, send):
    """
    Answer with the names of the scope's headers, and show some headers of its own.
    """
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [
                (b"content-type", b"text/plain"),
                (b"x-total-count", b"7"),
                (b"set-cookie", b"a=b"),
                (b"x-debug", b"y"),
            ],
        }
    )
    names = sorted(name.decode() for name, _ in scope["headers"])
    await send({"type": "http.response.body", "body": " ".join(names).encode()})


def the_error(app=echo_scope, **settings):
    with pytest.raises(ConfigurationError) as error:
        BatchMiddleware(app, **settings)
    return str(error.value)


class TestWrongArguments:
    @pytest.mark.parametrize("app", [None, "app", 7, object()])
    def test_app(self, app):
        """
        Something that cannot be called is no app.
        """
        assert the_error(app).startswith("BatchMiddleware(")
        assert the_error(app).endswith("): pass an ASGI app.")

    @pytest.mark.parametrize("limits", [{}, 7, {"concurrency": 1}, Limits])
    def test_limits(self, limits):
        """
        Limits are checked where they are made, so nothing else will do.
        """
        assert the_error(limits=limits) == f"limits={limits!r:.100}: pass Limits(…)."

    @pytest.mark.parametrize("store", [None, 7, b"memory://", object()])
    def test_store(self, store):
        """
        A store is named by its URL, or is one.
        """
        expected = f'store={store!r:.100}: write a URL such as "redis://localhost".'

        assert the_error(store=store) == expected

    @pytest.mark.parametrize("url", ["", "memory", "mysql://x", "redis", "/tmp/store"])
    def test_store_url(self, url):
        """
        What no plug knows is told at once, and what to write instead.
        """
        assert the_error(store=url).startswith(f"store={url!r}: write ")

    @pytest.mark.parametrize(
        "path",
        [
            "",
            "/",
            "batch",
            "/batch/",
            "//batch",
            "/a//b",
            "/a b",
            "/ä",
            "/batch?x",
            "/{id}",
            "/a/..",
            "/.x",
            "/a%20b",
            "/a\n",
            b"/batch",
            None,
            7,
        ],
    )
    def test_path(self, path):
        """
        A path that would never match, or match more than one thinks, is refused.
        """
        assert the_error(path=path) == (
            f'path={path!r}: write a path such as "/batch", that starts with "/", does not end'
            ' with it, and holds letters, digits, "-", "_", "." and "/" only.'
        )

    @pytest.mark.parametrize("value", ["", "loose", "STRICT", None, True, ["strict"]])
    def test_path_policy(self, value):
        """
        There are two policies.
        """
        assert (
            the_error(path_policy=value) == f"path_policy={value!r}: write 'strict' or 'lenient'."
        )

    @pytest.mark.parametrize("value", ["", "drop", None, False, 1])
    def test_credentials(self, value):
        """
        They may be kept or not.
        """
        assert the_error(credentials=value) == f"credentials={value!r}: write 'keep' or 'refuse'."

    @pytest.mark.parametrize(
        "value", ["app.example", "https://app.example/", "HTTPS://A", "", "**"]
    )
    def test_allowed_origins(self, value):
        """
        An origin that no browser would write never matches.
        """
        assert the_error(allowed_origins=[value]) == (
            f"allowed_origins: {value!r} is not an origin; write it as browsers do, as in"
            ' "https://app.example", or "*" for all.'
        )

    @pytest.mark.parametrize("value", ["", "stop", None, False, 1])
    def test_on_disconnect(self, value):
        """
        There are two ways to go on.
        """
        assert the_error(on_disconnect=value) == (
            f"on_disconnect={value!r}: write 'abort' or 'finish'."
        )

    @pytest.mark.parametrize(
        "setting", ["operation_headers", "expose_headers", "forward_scope_keys", "allowed_origins"]
    )
    @pytest.mark.parametrize("value", ["x-tenant", b"x", None, 7, [7], ["a", b"b"]])
    def test_lists_of_names(self, setting, value):
        """
        A single string is a list of letters, which nobody means.
        """
        assert the_error(**{setting: value}) == (
            f'{setting}={value!r}: write a list of names, ["…", "…"].'
        )

    @pytest.mark.parametrize("setting", ["operation_headers", "expose_headers"])
    @pytest.mark.parametrize("name", ["", "x tenant", "x_tenant", ":path", "ä", "x\n", "x:"])
    def test_t13_names_of_headers(self, setting, name):
        """
        T13: what can be no header's name is a mistake.
        """
        assert the_error(**{setting: ["x-ok", name]}) == (
            f"{setting}: {name!r} is not the name of a header."
        )

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("Authorization", "authorization is set by the batch request"),
            ("x-forwarded-FOR", "x-forwarded-for is set by the batch request"),
            ("host", "host is set by the batch request"),
            ("content-length", "content-length frames a message"),
            ("x-http-method-override", "x-http-method-override would change a method"),
        ],
    )
    def test_t4_t6_t12_t14_headers_that_no_setting_can_allow(self, name, reason):
        """
        T4, T6, T12, T14: safety is not a matter of settings.
        """
        error = the_error(operation_headers=["x-ok", name])

        assert error.startswith(f"operation_headers: leave {name!r} out. {reason}")

    @pytest.mark.parametrize("name", ["set-cookie", "Set-Cookie2"])
    def test_t40_cookies_cannot_be_shown(self, name):
        """
        T40: no setting hands HttpOnly cookies to scripts.
        """
        assert the_error(expose_headers=[name]) == (
            f"expose_headers: leave {name!r} out. {name} would hand cookies to scripts."
        )

    @pytest.mark.parametrize(
        "key", ["type", "path", "headers", "state", "path_params", "router", "asgi_batch"]
    )
    def test_scope_keys_that_are_made_anew(self, key):
        """
        §4: what belongs to a route or is made for each operation cannot be forwarded.
        """
        assert the_error(forward_scope_keys=["session", key]) == (
            f"forward_scope_keys: leave {key!r} out; it is made for each operation."
        )

    def test_long_values_are_cut(self):
        """
        A sentence stays a sentence whatever was passed.
        """
        assert len(the_error(path="x" * 10_000)) < 400
        assert len(the_error(operation_headers="x" * 10_000)) < 400
        assert len(the_error(path_policy="x" * 10_000)) < 400

    def test_unknown_arguments(self):
        """
        Python says so itself.
        """
        with pytest.raises(TypeError, match="pth"):
            BatchMiddleware(echo_scope, pth="/batch")
        with pytest.raises(TypeError):
            BatchMiddleware(echo_scope, "/batch")


class TestSettingsAtWork:
    async def test_further_headers_of_operations(self):
        """
        T15: operation_headers adds to what an operation may set, in any case.
        """
        app = BatchMiddleware(echo_scope, operation_headers=("X-Tenant", "range"))
        operation = {"method": "GET", "path": "/", "headers": {"x-tenant": "a", "RANGE": "b"}}
        refused = await submit(BatchMiddleware(echo_scope), operation)

        assert (await submit(app, operation)).bodies == ["host range x-tenant"]
        assert [each["code"] for each in refused.json()["errors"]] == ["header_not_allowed"] * 2

    async def test_headers_that_cannot_be_set_may_be_shown(self):
        """
        T40: expose_headers adds to what a result shows, and to nothing else.
        """
        app = BatchMiddleware(echo_scope, expose_headers=["X-Total-Count", "host"])
        shown = (await submit(app, "GET /")).results[0]["headers"]
        usual = (await submit(BatchMiddleware(echo_scope), "GET /")).results[0]["headers"]

        assert shown == {"content-type": "text/plain", "x-total-count": "7"}
        assert usual == {"content-type": "text/plain"}

    async def test_t10_path_policy(self):
        """
        T10: lenient lets through what strict refuses.
        """
        lenient = await submit(BatchMiddleware(echo_scope, path_policy="lenient"), "GET //a;b%2fc")
        strict = await submit(BatchMiddleware(echo_scope, path_policy="strict"), "GET //a;b%2fc")

        assert lenient.statuses == [200]
        assert strict.json()["errors"][0]["code"] == "invalid_path"

    async def test_forward_scope_keys(self):
        """
        §4: a key that outer middleware adds is seen where it is named.
        """
        seen = []

        async def app(scope, receive, send):
            seen.append(scope.get("session"))
            await respond(send)

        session = {"user": 7}
        scope = batch_scope(session=session)
        await submit(BatchMiddleware(app), "GET /", scope=scope)
        await submit(BatchMiddleware(app, forward_scope_keys=["session"]), "GET /", scope=scope)

        assert seen == [None, session]

    @pytest.mark.parametrize("path", ["/batch", "/api/v1.0/bulk_x-2"])
    async def test_t7_the_path_of_the_endpoint(self, path):
        """
        T7: a batch is taken at the path of the settings, which no operation may name.
        """
        app = BatchMiddleware(echo_scope, path=path)

        assert (await submit(app, "GET /", scope=batch_scope(path=path))).statuses == [200]
        refused = await submit(app, f"POST {path}", scope=batch_scope(path=path))
        assert refused.json()["errors"][0]["code"] == "nested_batch"

    async def test_nothing_is_running_when_nothing_runs(self):
        """
        F19: a batch leaves neither tokens nor bytes behind.
        """
        app = BatchMiddleware(echo_scope)
        await submit(app, "GET /", "GET /")

        assert app.statistics() == GateStatistics(running=0, waiting=0, abandoned=0, held_bytes=0)
        assert app.app is echo_scope

    async def test_no_limits_are_the_default_limits(self):
        """
        None is the same as leaving the argument out.
        """
        app = BatchMiddleware(echo_scope, limits=None)

        assert (await submit(app, *["GET /"] * 100)).status == 200
        assert (await submit(app, *["GET /"] * 101)).json()["code"] == "background_unavailable"


class TestWhichRequestsAreOurs:
    @pytest.mark.parametrize(
        "path", ["/", "/batch/", "/batch/x/y.css", "/batches", "/BATCH", "/v1/batch", "//batch"]
    )
    async def test_t39_only_the_exact_path(self, path):
        """
        T39: a longer path is the app's own, so that no cache takes an answer for a style sheet.
        """
        seen = []

        async def app(scope, receive, send):
            seen.append((scope, receive, send))
            await respond(send, status=404)

        exchange = Exchange(batch_scope(path=path), b"{}")
        await call(BatchMiddleware(app), exchange)
        scope, receive, send = seen[0]

        assert exchange.status == 404
        assert scope is exchange.scope
        assert (receive, send) == (exchange.receive, exchange.send)

    @pytest.mark.parametrize("kind", ["websocket", "something new"])
    async def test_other_scopes_pass_untouched(self, kind):
        """
        §4: websockets are the app's, also at the path of the endpoint.
        """
        seen = []

        async def app(scope, receive, send):
            seen.append((scope, receive, send))

        scope, receive, send = {"type": kind, "path": "/batch"}, object(), object()
        await BatchMiddleware(app)(scope, receive, send)

        assert seen[0][0] is scope
        assert seen[0][1] is receive
        assert seen[0][2] is send

    @pytest.mark.parametrize(("root", "path"), [("/api", "/api/batch"), ("/api", "/batch")])
    async def test_under_a_root_path(self, root, path):
        """
        §4: the path counts from the root path, whether or not the server repeats it.
        """
        scope = batch_scope(root_path=root, path=path)

        assert (await submit(BatchMiddleware(echo_scope), "GET /", scope=scope)).statuses == [200]


class TestAnswers:
    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "TRACE", "post"])
    async def test_other_methods(self, method):
        """
        RFC 9110 15.5.6: an answer 405 tells what is allowed.
        """
        exchange = await call(
            BatchMiddleware(echo_scope), Exchange(http_scope(method, "/batch"), b"")
        )

        assert (exchange.status, exchange.headers["allow"]) == (405, "POST, OPTIONS")
        assert exchange.json() == {
            "type": "about:blank",
            "title": "Method not allowed",
            "status": 405,
            "code": "method_not_allowed",
            "detail": "Use POST here.",
        }

    @pytest.mark.parametrize(
        ("body", "status", "content_type"),
        [
            (batch_body(["GET /"]), 200, "application/json"),
            (b"{", 400, "application/problem+json"),
            (batch_body(["GET x"]), 422, "application/problem+json"),
        ],
    )
    async def test_t39_t45_no_caching_and_no_sniffing(self, body, status, content_type):
        """
        T39, T45: answers and refusals are nobody else's, and JSON, whatever is in them.
        """
        exchange = await call(BatchMiddleware(echo_scope), Exchange(batch_scope(), body))

        counted = {"batch-operations": "1"} if status == 200 else {}

        assert exchange.status == status
        assert exchange.headers == {
            **counted,
            "content-type": content_type,
            "content-length": str(len(exchange.body)),
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
        }

    async def test_t49_nothing_of_an_operation_gets_into_the_outer_answer(self):
        """
        T49: neither status nor headers.
        """

        async def app(scope, receive, send):
            headers = [(b"location", b"/x"), (b"set-cookie", b"a=b"), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 500, "headers": headers})
            await send({"type": "http.response.body"})

        exchange = await submit(BatchMiddleware(app), "GET /")

        assert exchange.status == 200
        assert not {"location", "set-cookie"} & set(exchange.headers)
        assert exchange.results == [{"id": "0", "status": 500, "headers": {"location": "/x"}}]

    async def test_t8_redirects_are_returned_and_not_followed(self):
        """
        T8: a redirect is an answer like any other.
        """
        calls = []

        async def app(scope, receive, send):
            calls.append(scope["path"])
            headers = [(b"location", b"http://evil.example/x")]
            await send({"type": "http.response.start", "status": 302, "headers": headers})
            await send({"type": "http.response.body"})

        exchange = await submit(BatchMiddleware(app), "GET /a")

        assert calls == ["/a"]
        assert exchange.results == [
            {"id": "0", "status": 302, "headers": {"location": "http://evil.example/x"}}
        ]

    @pytest.mark.parametrize("method", ["POST", "OPTIONS", "GET"])
    async def test_t7_a_batch_within_a_batch(self, method):
        """
        T7: a rewriting middleware or a mount cannot lead an operation to a batch endpoint.
        """
        calls = []

        async def app(scope, receive, send):
            calls.append(scope)

        inner = BatchMiddleware(app)

        async def rewriting(scope, receive, send):
            await inner({**scope, "path": "/batch"}, receive, send)

        inside = {"method": method, "path": "/b", "body": {"operations": []}}
        exchange = await submit(BatchMiddleware(rewriting), inside)
        result = exchange.results[0]

        assert (result["status"], result["error"]["code"]) == (400, "nested_batch")
        assert result["error"]["detail"] == "An operation cannot be a batch itself."
        assert calls == []

    async def test_t18_the_app_receives_and_answers_the_same_bytes(self):
        """
        T18: from the client to the app and back, a JSON body keeps every byte.
        """
        received = []

        async def echo(scope, receive, send):
            received.append((await receive())["body"])
            await respond(send, received[0], content_type=b"application/json")

        body = b'{"b" : 12345678901234567890123,"a":1.0, "b":[ ] }'
        document = b'{"operations":[{"method":"POST","path":"/","body": %b }]}' % body
        exchange = await call(BatchMiddleware(echo), Exchange(batch_scope(), document))

        assert received == [body]
        assert exchange.body == (
            b'{"results":[{"id":"0","status":200,"result":%b}],"summary":'
            b'{"total":1,"succeeded":1,"failed":0,"skipped":0}}' % body
        )
