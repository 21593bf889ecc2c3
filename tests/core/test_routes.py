"""
Which routes operations may reach, by patterns of the path.
"""

from time import process_time
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_batch._core.paths import matches_plain
from asgi_batch._core.routes import Routes


def is_match(pattern, path, method="GET", root=""):
    """
    Whether *pattern* names a path that a client has written so.
    """
    denied = not Routes(None, [pattern]).permit(method, path, path.encode(), root)
    allowed = Routes([pattern], ()).permit(method, path, path.encode(), root)

    assert denied or not allowed
    return denied


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/", "/", True),
        ("/", "/x", False),
        ("/**", "/", True),
        ("/**", "/a/b", True),
        ("/login", "/login", True),
        ("/login", "/login/", True),
        ("/login/", "/login", True),
        ("/login", "/logins", False),
        ("/login", "/Login", False),
        ("/login", "/x/login", False),
        ("/login", "/login/x", False),
        ("/users/*", "/users/7", True),
        ("/users/*", "/users/7/", True),
        ("/users/*", "/users", False),
        ("/a%2Ab", "/a*b", True),
        ("/a%2Ab", "/axb", False),
        ("/users/*", "/users/7/x", False),
        ("/users/*/posts", "/users/7/posts", True),
        ("/*.json", "/a.json", True),
        ("/*.json", "/axjson", False),
        ("/a*b*c", "/abc", True),
        ("/a*b*c", "/axbxbxc", True),
        ("/a*b*c", "/acb", False),
        ("/a**", None, None),
        ("/admin/**", "/admin", True),
        ("/admin/**", "/admin/", True),
        ("/admin/**", "/admin/x/y", True),
        ("/admin/**", "/administrator", False),
        ("/**/secret", "/secret", True),
        ("/**/secret", "/a/b/secret/", True),
        ("/**/secret", "/a/secrets", False),
        ("/a/**/b/*/**/c", "/a/b/x/c", True),
        ("/a/**/b/*/**/c", "/a/1/b/b/x/2/c", True),
        ("/a/**/b/*/**/c", "/a/b/c", False),
        ("/a/**/**/c", "/a/c", True),
        ("/caf%C3%A9", "/caf\u00e9", True),
        ("/a b".replace(" ", "%20"), "/a b", True),
        ("/a.b", "/axb", False),
    ],
)
def test_t2_what_a_pattern_names(pattern, path, expected):
    """
    T2: a star is within a segment, two are any segments, and a slash at the end changes nothing.
    """
    if expected is None:
        with pytest.raises(ValueError, match="between slashes"):
            Routes(None, [pattern])
    else:
        assert is_match(pattern, path) is expected


@pytest.mark.parametrize(
    ("pattern", "method", "expected"),
    [
        ("/x", "DELETE", True),
        ("GET /x", "GET", True),
        ("GET /x", "HEAD", True),
        ("HEAD /x", "GET", False),
        ("GET /x", "POST", False),
        ("POST|PUT  /x", "PUT", True),
        ("POST|PUT /x", "GET", False),
    ],
)
def test_t2_methods_of_a_pattern(pattern, method, expected):
    """
    T2: apps answer HEAD from the route of GET, so what names one names both.
    """
    assert is_match(pattern, "/x", method) is expected


def permit(allow, deny, target, method="GET", root=""):
    """
    Whether an operation on *target*, as written, may be sent under the lenient policy.
    """
    return Routes(allow, deny).permit(method, unquote(target), target.encode(), root)


@pytest.mark.parametrize(
    "target",
    [
        "/%61dmin/x",
        "//admin/x",
        "/admin//x",
        "/admin;v=1/x",
        "/;v=1/admin/x",
        "/admin%2Fx",
        "/admin%2fx",
        "/%2Fadmin/x",
        "/%2561dmin/x",
        "/%25%36%31dmin/x",
        "/open/%252e%252e/admin/x",
        "/open/%252e%252e%255cadmin/x",
        "/api/admin/x",
        "/api/api/admin/x",
        "/api//admin;x/x",
        "/adm%2569n/%252e%252e/x",
        "/%2525252561dmin/x",
        "/api/api/api/admin/x",
        "/open/api/admin/x",
        "/open/apiadmin/x",
        "/admin/x/",
        "/admin",
    ],
)
def test_t2_t10_what_is_denied_is_so_under_any_spelling(target):
    """
    T2, T10: whoever might read the path as another is taken into account.
    """
    assert not permit(None, ["/admin/**"], target, root="/api")
    assert not permit(["/open/**"], (), target, root="/api")


def test_t2_an_encoded_slash_may_be_one_segment():
    """
    T2: some routers decode it after they have found the route.
    """
    assert not permit(None, ["/files/*"], "/files/a%2Fb")
    assert not permit(["/files/*"], (), "/files/a%2Fb")
    assert permit(["/files/**"], (), "/files/a%2Fb")


def test_t2_t10_the_root_path_may_come_to_light_last():
    """
    T2, T10: for a proxy that takes empty segments and parameters out before an app looks.
    """
    for target in ("/ap//i/admin", "/ap;x/i/admin", "//ap/i;x/admin"):
        assert not permit(None, ["/admin"], target, root="/ap/i")


def test_t2_a_slash_at_the_end_may_be_taken_off():
    """
    T2: what is left must be allowed as well, and what is there must not be denied.
    """
    for target in ("/users/", "/users%2F", "/users//", "/users/;x", "/%75sers/"):
        assert not permit(["/users/*"], (), target)
        assert not permit(None, ["/users/*"], target)
    assert permit(["/users/*"], (), "/users/7/")
    assert permit(["/"], (), "/")


def test_t2_a_literal_percent_sign_can_be_denied():
    """
    T2: an app that decodes twice stops there, whatever a third time would make of it.
    """
    assert not permit(None, ["/a%2541"], "/a%252541")
    assert not permit(None, ["/a%2541/**"], "/a%252541/%252e%252e/x")


@pytest.mark.parametrize("target", ["/open", "/open/100%25", "/open/a%20b", "/open/a%2Db"])
def test_t9_what_is_allowed_passes(target):
    """
    T9: also where it has signs that others may not have.
    """
    assert permit(["/open/**"], ["/admin/**"], target)


def test_deny_is_stronger_than_allow():
    """
    Whatever stands in which order.
    """
    assert not permit(["/**"], ["/admin/**"], "/admin")
    assert not permit(["GET /x"], (), "/x", "POST")
    assert not permit([], (), "/x")


@pytest.mark.parametrize(
    ("pattern", "part"),
    [
        ("users", "write a path such as"),
        ("", "write a path such as"),
        ("GET", "write a path such as"),
        ("get /users", "write a path such as"),
        ("/a b", "write a path such as"),
        ("GET,POST /x", "write a path such as"),
        ("TRACE /x", "TRACE is not one of GET, HEAD"),
        ("/a//b", "leave '' out"),
        ("/a/../b", r"leave '\.\.' out"),
        ("/a/./b", r"leave '\.' out"),
        ("/a?b=1", r"leave 'a\?b=1' out"),
        ("/a#b", "leave 'a#b' out"),
        ("/a;b", "leave 'a;b' out"),
        ("/a%00", "out, no path has that"),
        ("/a%2Fb", "leave 'a%2Fb' out"),
        ("/a**", "between slashes"),
        ("/***", "between slashes"),
    ],
)
def test_patterns_that_name_nothing(pattern, part):
    """
    What could never match, or not as one thinks, is refused.
    """
    with pytest.raises(ValueError, match=part):
        Routes([pattern], ())


SEGMENTS = st.sampled_from(["a", "b", "ab", "a.b", "~a", ".a", "a:b", "a%41", "admin"])
PATTERN_PARTS = st.sampled_from(["a", "b", "a.b", ".a", "a%41", "admin", "*", "a*", "**"])


def joined(parts, most):
    """
    Paths or patterns of some of *parts*.
    """
    return st.lists(parts, max_size=most).map(lambda names: "/" + "/".join(names))


@given(
    st.none() | st.lists(joined(PATTERN_PARTS, 4), max_size=3),
    st.lists(joined(PATTERN_PARTS, 3), max_size=2),
    joined(SEGMENTS, 4) | st.sampled_from(["", "/", "a", "/a/", "/a?b", "//a"]),
)
def test_t2_the_short_way_is_the_same_way(allow, deny, target):
    """
    T2: a path that passes at first sight is plain, and would have passed the long way; and one that
    is plain and passes nowhere at first sight is not let through by rules that are simple.
    """
    routes = Routes(allow, deny)
    at_once = routes.plain.get("GET", lambda _: None)(target) is not None
    is_plain = matches_plain(target) is not None
    at_length = is_plain and routes.permit("GET", target, target.encode())

    assert not at_once or at_length
    if all(each not in pattern for pattern in allow or () for each in ("a*", ".a", "%", "**/")):
        assert at_once == at_length


def steps(pattern, path):
    """
    What it costs to match, as the work of Python's own engine cannot be counted: the time.
    """
    permit_ = Routes(None, [pattern]).permit
    raw = path.encode()

    def once():
        start = process_time()
        permit_("GET", path, raw)
        return process_time() - start

    return min(once() for _ in range(5))


@pytest.mark.parametrize(
    ("pattern", "unit"),
    [
        ("/*a*a*a*a*a*b", "a"),
        ("/**/a/**/a/**/a/**/a/**/b", "/a"),
        ("/**/*a*b/**/*a*c/**/*a*d", "/ab"),
        ("/**/a/a/a/b/**/c", "/a"),
    ],
)
def test_t35_cost_grows_with_the_path_and_not_with_its_powers(pattern, unit):
    """
    T35: eight times the path may cost eight times as much, with room for a busy machine; with two
    nested repetitions it would be 64 times.
    """
    small = steps(pattern, "/" + unit * 20_000)
    large = steps(pattern, "/" + unit * 160_000)

    assert large < 32 * max(small, 0.0001)


@pytest.mark.parametrize(("start", "unit"), [("/%", "25"), ("/", "/api"), ("/x", "/api;")])
def test_t35_readings_do_not_grow_in_number(start, unit):
    """
    T35: nesting escapes or repeating the root path buys no more than a longer path does.
    """
    routes = Routes(None, ["/admin/**"])

    def cost(count):
        target = start + unit * count + "/x"
        began = process_time()
        routes.permit("GET", unquote(target), target.encode(), "/api")
        return process_time() - began

    small = min(cost(1000) for _ in range(5))
    large = min(cost(8000) for _ in range(5))

    assert large < 32 * max(small, 0.0001)


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=6), st.data())
def test_t2_a_pattern_made_from_a_path_names_it(segments, data):
    """
    T2: whatever segments are replaced by stars, and whatever runs of them by two.
    """
    pattern = [data.draw(st.sampled_from([each, "*"])) for each in segments]
    start = data.draw(st.integers(0, len(pattern)))
    end = data.draw(st.integers(start, len(pattern)))
    pattern[start:end] = ["**"]

    assert is_match("/" + "/".join(pattern), "/" + "/".join(segments))
