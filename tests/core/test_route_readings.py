"""
In how many ways a path can be read, and what a pattern names: a slow matcher has the last word.
"""

from functools import cache
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_batch._core.routes import Routes


def permit(allow, deny, target, root=""):
    """
    Whether a GET of *target*, as written, may be sent under the lenient policy.
    """
    return Routes(allow, deny).permit("GET", unquote(target), target.encode(), root)


@pytest.mark.parametrize(
    "target",
    [
        "/open/%252e%252e/admin/%25252e%25252e/open/x",
        "/open/%252e%252e%253bx/admin/x",
        "/open/%252e%252e%252fadmin",
        "/admin%3Bv=1/x",
        "/api//v1/admin/x",
        "/api;x/v1/admin/x",
        "/open/api/v1/admin",
    ],
)
def test_t2_t10_readings_that_meet(target):
    """
    T2, T10: whoever decodes twice may take parameters, dots and the root path off in between.
    """
    assert not permit(None, ["/admin/**"], target, root="/api/v1")
    assert not permit(["/open/**"], (), target, root="/api/v1")


@pytest.mark.parametrize(
    ("pattern", "target"),
    [
        ("/*/*/admin", "/x/%252e%252e%252fadmin"),
        ("/admin", "/x/%252e%252e%252fadmin"),
        ("/admin", "/admin/%253Ba/%252e%252e"),
        ("/", "/admin/%253Ba/%252e%252e"),
    ],
)
def test_t2_t10_dots_that_are_taken_out_or_left(pattern, target):
    """
    T2, T10: whoever decodes twice may do either, and take parameters off before.
    """
    assert not permit(None, [pattern], target)


def test_t2_t10_parameters_that_are_taken_off_before_decoding():
    """
    T2, T10: what is encoded is no parameter then.
    """
    assert not permit(None, ["/*.json"], "/data%3B.json;v=1")
    assert permit(None, ["/*.json"], "/data%3B.txt;v=1")


@pytest.mark.parametrize("path", ["/", "/users/", "/users/7/posts/"])
def test_t9_a_star_opens_no_segment_without_a_name(path):
    """
    T9: some apps answer it from the route above, so it is named by what bars and not by what opens.
    """
    above = path.rstrip("/")

    assert not permit([f"{above}/*"], (), path)
    assert not permit(None, [f"{above}/*"], path)
    assert permit([above or "/"], (), path)
    assert permit([f"{above}/**"], (), path)


@pytest.mark.parametrize("layers", range(6))
def test_t35_layers_boundary(layers):
    """
    T35: paths that are encoded three times more are looked at, others are refused.
    """
    target = f"/open/a%{'25' * layers}20b"

    assert permit(["/open/**"], (), target) is (layers <= 3)
    assert permit(None, ["/admin"], target) is (layers <= 3)


def readings(target, root):
    """
    How often a path is matched to find out.
    """
    routes = Routes(None, ["/admin/**"])
    count = 0

    def counted(path):
        nonlocal count
        count += 1
        return matches(path)

    matches = routes._permitted["GET"]
    routes._permitted["GET"] = counted
    routes.permit("GET", unquote(target), target.encode(), root)
    return count


@pytest.mark.parametrize(
    "unit", ["25", "256%253%253", "/a", "/a;", "//a", "/a;%2541", "%2F/a", "%252Fa"]
)
def test_t35_readings_are_few(unit):
    """
    T35: whatever a path repeats, and however often.
    """
    start = "/%25" if unit.startswith("25") else "/a"
    few, many = (readings(start + unit * times, "/a") for times in (100, 1000))

    assert few == many <= 200


segments = st.text("ab", min_size=1, max_size=4)
globs = st.sampled_from(["**", "*"]) | st.text("ab*", min_size=1, max_size=5).filter(
    lambda glob: "**" not in glob
)


@cache
def is_named(glob, text, star="*"):
    """
    Whether *text* is what *glob* says, tried out in all ways.
    """
    if not glob:
        return not text
    if glob[0] == star:
        return is_named(glob[1:], text, star) or (bool(text) and is_named(glob, text[1:], star))
    same = bool(text) and (glob[0] == text[0] if isinstance(text, str) else fits(glob[0], text[0]))
    return same and is_named(glob[1:], text[1:], star)


def fits(glob, segment):
    """
    Whether one segment is named by another.
    """
    return is_named(glob, segment)


@given(st.lists(globs, max_size=5), st.lists(segments, max_size=6), st.sampled_from(["", "/"]))
def test_t2_what_a_pattern_names_is_what_a_slow_matcher_says(pattern, path, end):
    """
    T2: for those that open and those that bar.
    """
    expected = is_named(tuple(pattern), tuple(path), "**")
    target = "/" + "/".join(path) + (end if path else "")
    pattern = "/" + "/".join(pattern)

    assert permit([pattern], (), target) is expected
    # A slash at the end may be a segment without a name, which a star bars, too.
    assert not (expected and permit(None, [pattern], target))
    assert permit(None, [pattern], target) is not expected or target.endswith("/")
