"""
The scope of an operation: what it takes from the batch request and what it never does.
"""

import pytest

from asgi_batch._core.models import CurrentOperation, Operation
from asgi_batch._core.scope import MARKER, ScopeTemplate, route_path
from support import batch_scope

CURRENT = CurrentOperation("b", "0", 0, 1, 1, False)


def operation(**members):
    return Operation(
        **{
            "index": 0,
            "id": "0",
            "method": "GET",
            "path": "/a b",
            "raw_path": b"/a%20b",
            "query_string": b"x=1",
            "headers": (),
            "replaces": frozenset(),
            "body": b"",
            "timeout": None,
            **members,
        }
    )


def scope_of(outer, *, forward=(), **members):
    return ScopeTemplate(outer, forward).scope_for(operation(**members), CURRENT)


class TestMembers:
    def test_a_scope_holds_exactly_what_is_listed(self):
        """
        §4: the scope is built from an allow-list and says what the operation says.
        """
        outer = batch_scope(scheme="https", http_version="2", query_string=b"outer=1")

        assert scope_of(outer, method="POST") == {
            "type": "http",
            "http_version": "1.1",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "method": "POST",
            "path": "/a b",
            "raw_path": b"/a%20b",
            "root_path": "",
            "query_string": b"x=1",
            "scheme": "https",
            "server": ("testserver", 80),
            "client": ("192.0.2.7", 50_000),
            "headers": [(b"host", b"testserver")],
            "state": {},
            "extensions": {},
            "asgi_batch": CURRENT,
        }
        assert MARKER == "asgi_batch"

    def test_a_bare_outer_scope(self):
        """
        §4: what a server leaves out gets the value that the ASGI specification gives it.
        """
        scope = scope_of({"type": "http", "path": "/batch", "headers": []})

        assert (scope["scheme"], scope["server"], scope["client"]) == ("http", None, None)
        assert scope["root_path"] == ""
        assert scope["extensions"] == {}
        assert "state" not in scope

    @pytest.mark.parametrize("extensions", [None, {}])
    def test_no_extensions(self, extensions):
        """
        §4: no extensions are as good as none.
        """
        assert scope_of(batch_scope(extensions=extensions))["extensions"] == {}

    def test_only_tls_is_kept_of_the_extensions(self):
        """
        §4, T48: no operation may push, hint, send paths or trailers.
        """
        tls = {"server_cert": None}
        extensions = {"tls": tls, "http.response.pathsend": {}, "http.response.trailers": {}}
        scope = scope_of(batch_scope(extensions=extensions))

        assert scope["extensions"] == {"tls": tls}

    @pytest.mark.parametrize("key", ["app", "litestar_app", "user", "auth"])
    def test_what_outer_middleware_says_of_the_caller_is_kept(self, key):
        """
        §4: the wrapped app finds who calls, and which app it is.
        """
        value = object()

        assert scope_of(batch_scope(**{key: value}))[key] is value

    @pytest.mark.parametrize(
        "key",
        ["path_params", "endpoint", "route", "router", "fastapi_astack", "session", "anything"],
    )
    def test_what_belongs_to_the_outer_route_is_dropped(self, key):
        """
        §4: nothing of the batch request's own routing gets through.
        """
        assert key not in scope_of(batch_scope(**{key: {}}))

    def test_keys_may_be_named(self):
        """
        §4: the settings may forward further keys, where they are there.
        """
        scope = scope_of(batch_scope(session={"a": 1}), forward=("session", "tenant"))

        assert scope["session"] == {"a": 1}
        assert "tenant" not in scope


class TestHeaders:
    def test_own_headers_follow_the_inherited_ones(self):
        """
        T15: an operation adds its headers to the caller's.
        """
        outer = batch_scope(headers=[(b"Host", b"h"), (b"cookie", b"c"), (b"range", b"r")])
        own = ((b"prefer", b"p"), (b"content-length", b"0"))

        assert scope_of(outer, headers=own)["headers"] == [
            (b"host", b"h"),
            (b"cookie", b"c"),
            (b"prefer", b"p"),
            (b"content-length", b"0"),
        ]

    def test_own_headers_replace_the_inherited_ones_of_that_name(self):
        """
        T15: an operation's accept counts, not the batch request's.
        """
        outer = batch_scope(headers=[(b"Accept", b"a"), (b"host", b"h"), (b"accept", b"b")])
        scope = scope_of(outer, headers=((b"accept", b"c"),), replaces=frozenset({b"accept"}))

        assert scope["headers"] == [(b"host", b"h"), (b"accept", b"c")]


class TestIsolation:
    def test_t5_operations_share_no_mutable_object(self):
        """
        T5: what one operation does to its scope no other sees, nor does the outer request.
        """
        outer = batch_scope(state={"pool": 1}, extensions={"tls": {}})
        template = ScopeTemplate(outer)
        first, second = (template.scope_for(operation(), CURRENT) for _ in range(2))
        first["state"]["user"] = "ada"
        first["headers"].append((b"x", b"y"))
        first["extensions"]["x"] = {}
        first["asgi"]["x"] = 1
        first["user"] = "ada"

        assert second == template.scope_for(operation(), CURRENT)
        assert "user" not in second
        assert outer["state"] == {"pool": 1}
        assert outer["extensions"] == {"tls": {}}

    def test_replacing_headers_makes_a_fresh_list_as_well(self):
        """
        T5: the list is an operation's own, whether or not it sets headers.
        """
        template = ScopeTemplate(batch_scope())
        asking = operation(headers=((b"prefer", b"p"),), replaces=frozenset({b"prefer"}))
        template.scope_for(asking, CURRENT)["headers"].clear()

        assert template.scope_for(asking, CURRENT)["headers"] == [
            (b"host", b"testserver"),
            (b"prefer", b"p"),
        ]

    def test_litestars_connection_state_is_dropped(self):
        """
        §4: it belongs to the outer connection; the rest of the state is the app's.
        """
        outer = batch_scope(state={"_ls_connection_state": 1, "ls": 2, "x_ls_": 3})

        assert scope_of(outer)["state"] == {"ls": 2, "x_ls_": 3}


class TestRootPath:
    @pytest.mark.parametrize(
        ("root", "path", "route", "prefix"),
        [
            ("", "/batch", "/batch", ""),
            ("/api", "/api/batch", "/batch", "/api"),
            ("/api", "/batch", "/batch", ""),
            ("/api", "/apibatch", "/apibatch", ""),
            ("/api", "/api", "/api", ""),
            ("/a b", "/a b/batch", "/batch", "/a b"),
            ("/batch", "/batch", "/batch", ""),
            ("/batch", "/batch/batch", "/batch", "/batch"),
        ],
    )
    def test_servers_that_do_and_do_not_put_the_root_path_in_front(self, root, path, route, prefix):
        """
        §4: uvicorn prefixes the path with the root path and hypercorn does not.
        """
        outer = batch_scope(root_path=root, path=path)
        scope = scope_of(outer)

        assert route_path(outer) == route
        assert scope["root_path"] == root
        assert scope["path"] == f"{prefix}/a b"
        assert scope["raw_path"] == prefix.replace(" ", "%20").encode() + b"/a%20b"

    def test_no_root_path_at_all(self):
        """
        §4: the key is optional.
        """
        assert route_path({"path": "/batch"}) == "/batch"
