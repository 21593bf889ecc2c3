"""
Files of operations: every form is read as it is meant, and what is wrong with one is said.
"""

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_batch.cli.operations.csv_file import Mapped, mapping_of, read_csv
from asgi_batch.cli.operations.json_file import is_array, read_array, read_lines
from asgi_batch.cli.operations.source import Source
from asgi_batch.cli.problems import UsageProblem

GET = {"id": "a", "method": "GET", "path": "/a"}


def plain(operations):
    """
    *operations* with bodies that can be compared.
    """
    return [
        {name: bytes(value) if name == "body" else value for name, value in each.items()}
        for each in operations
    ]


def from_lines(text):
    return plain(read_lines(io.BufferedReader(io.BytesIO(text))))


def from_array(text):
    return plain(read_array(io.BufferedReader(io.BytesIO(text))))


def test_lines_are_operations():
    """
    Empty ones are left out, and so is a byte order mark.
    """
    text = (
        b'\xef\xbb\xbf{"method": "GET", "path": "/a", "id": "a"}\n\n  \n' + json.dumps(GET).encode()
    )

    assert from_lines(text) == [GET, GET]


def test_bodies_stay_as_they_are_written():
    """
    Large numbers, the order of members and spaces reach the server.
    """
    body = b'{"n": 12345678901234567890123, "p": 1.0, "p": 2}'
    text = b'{"method": "POST", "path": "/a", "body": ' + body + b"}"

    assert from_lines(text)[0]["body"] == body
    assert from_array(b"[" + text + b"]")[0]["body"] == body


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/v1/chat", "/v1/chat"),
        ("https://example.com/v1/chat?a=b", "/v1/chat?a=b"),
        ("https://example.com", "/"),
    ],
)
def test_lines_of_openai(url, path):
    """
    ``custom_id`` is the id, and the path is that of the URL.
    """
    line = {"custom_id": "r-1", "method": "POST", "url": url, "body": {"model": "m"}}

    assert from_lines(json.dumps(line).encode()) == [
        {"id": "r-1", "method": "POST", "path": path, "body": b'{"model": "m"}'}
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "Line 1: Input data was truncated."),
        ("[]", "Line 1: Expected `object`, got `array`."),
        ('{"path": "/a"}', "Line 1: Object missing required field `method`."),
        ('{"method": "GET"}', "Line 1: Object missing required field `path`, or `url`."),
        (
            '{"method": "GET", "path": "/a", "bdoy": 1}',
            "Line 1: Object contains unknown field `bdoy`.",
        ),
        ('{"method": 1, "path": "/a"}', "Line 1: Expected `str`, got `int` - at `$.method`."),
        ('{"method": "GET", "url": "http://[a"}', "Line 1: Invalid IPv6 URL."),
    ],
)
def test_lines_that_are_none(line, reason):
    """
    The line and the reason are said.
    """
    with pytest.raises(UsageProblem) as problem:
        from_lines(line.encode())

    assert problem.value.message == reason


@pytest.mark.parametrize("member", [b'"path": "/\xff"', b'"path": "/a", "body": ["\xff"]'])
def test_lines_in_another_encoding(member):
    """
    A server would refuse the whole batch, in the middle of the run.
    """
    with pytest.raises(UsageProblem, match="Line 1: 'utf-8' codec can't decode"):
        from_lines(b'{"method": "POST", %b}' % member)


def test_a_line_that_nests_endlessly():
    """
    Is none, and no bug.
    """
    depth = 100_000
    line = b'{"method": "POST", "path": "/a", "body": %b}' % (b"[" * depth + b"]" * depth)
    with pytest.raises(UsageProblem, match="Line 1: maximum recursion depth"):
        from_lines(line)


ARRAYS = ("[{}]", '{{"operations": [{}]}}', ' {{\n "operations"\n:[ {} ]\n}}\n', "\ufeff[{}]")


@pytest.mark.parametrize("form", ARRAYS)
@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_document_is_its_operations(form, count):
    """
    An array, or what would be posted.
    """
    text = form.format(", ".join([json.dumps(GET)] * count)).encode()

    assert is_array(text)
    assert from_array(text) == [GET] * count


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[", "The array of operations does not end."),
        ('[{"method": "GET"', "The array of operations does not end."),
        ('[{"method": "GET", "path": "/a', "The array of operations does not end."),
        ("[1]", "Operation 0: Expected `object`, got `int`."),
        ("[,]", "Operation 0: Input data was truncated."),
        ('[{"method": "GET", "path": "/a"},]', "Operation 1: Input data was truncated."),
        ("[] x", "There is more after the operations than there should be: x"),
        ("[]}", "There is more after the operations than there should be: }"),
        (
            '{"operations": [], "atomic": true}',
            'There is more after the operations than there should be: , "atomic": true}',
        ),
    ],
)
def test_documents_that_are_none(text, reason):
    """
    What is wrong is said.
    """
    with pytest.raises(UsageProblem) as problem:
        from_array(text.encode())

    assert problem.value.message == reason


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=30)
@given(st.lists(VALUES, max_size=6), st.integers(1, 40), st.booleans())
def test_an_array_is_cut_as_a_parser_would(bodies, block, is_ascii):
    """
    Wherever the blocks end that it is read in, and whatever the strings in it hold.
    """
    operations = [{"method": "POST", "path": "/a", "body": body} for body in bodies]
    text = json.dumps(operations, ensure_ascii=is_ascii).encode(errors="surrogatepass")
    source = io.BytesIO(text)
    source.read = lambda size, read=source.read: read(min(size, block))

    assert [json.loads(bytes(each["body"])) for each in read_array(source)] == bodies


def test_an_operation_without_an_end_is_not_held(monkeypatch):
    """
    A string or an array that goes on and on is refused.
    """
    monkeypatch.setattr("asgi_batch.cli.operations.json_file._LONGEST", 100_000)
    for text in (b'["' + b"x" * 400_000, b"[[" + b"1," * 200_000):
        with pytest.raises(UsageProblem, match=r"does not end|more than"):
            from_array(text)


def from_csv(text, mapped):
    return list(read_csv(io.BytesIO(text.encode()), mapped))


def test_a_row_of_csv_is_an_operation():
    """
    Columns in the path are quoted, and all others are the body.
    """
    text = '\ufeffid,name,note\n1,Ada,\n2 /ü,Grace,"a,\nb"\n'

    assert from_csv(text, Mapped("/users/{id}", "PUT")) == [
        {"method": "PUT", "path": "/users/1", "body": {"name": "Ada", "note": ""}},
        {
            "method": "PUT",
            "path": "/users/2%20%2F%C3%BC",
            "body": {"name": "Grace", "note": "a,\nb"},
        },
    ]
    assert from_csv(text, Mapped("/users/{id}", "DELETE"))[0] == {
        "method": "DELETE",
        "path": "/users/1",
    }


def test_columns_are_mapped_with_their_types():
    """
    ``FIELD:TYPE=COLUMN``; and a column names the operation.
    """
    text = "n,Full Name,Age,Ok,Tags\nx,Ada,36.5,Yes,[1]\ny,Bob,7,0,{}\n"
    fields = mapping_of(["name=Full Name", "age:number=Age", "ok:boolean=Ok", "tags:json=Tags"])

    assert from_csv(text, Mapped("/users", "POST", fields, "n")) == [
        {
            "id": "x",
            "method": "POST",
            "path": "/users",
            "body": {"name": "Ada", "age": 36.5, "ok": True, "tags": [1]},
        },
        {
            "id": "y",
            "method": "POST",
            "path": "/users",
            "body": {"name": "Bob", "age": 7, "ok": False, "tags": {}},
        },
    ]


@pytest.mark.parametrize("text", ["name", "=x", "a:date=b", "a="])
def test_mappings_that_are_none(text):
    """
    What to write is said.
    """
    with pytest.raises(UsageProblem, match="write FIELD=COLUMN"):
        mapping_of([text])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,b\n1,2\n", "There is no column id, n."),
        ("", "There is no column id, n."),
        ("id,n\n1,2\n3\n", "Line 3: it has not as many values as there are columns."),
        ("id,n\n1,2,3\n", "Line 2: it has not as many values as there are columns."),
        ("id,n\n1,x\n", "Line 2: n is no number: x."),
        ("id,n\n1,NaN\n", "Line 2: n is no number: NaN."),
        ("id,n\n1,1e999\n", "Line 2: n is no number: 1e999."),
        ("id,n\n1,1_000\n", "Line 2: n is no number: 1_000."),
        ('id,n\n1,"x\n', "Line 1: unexpected end of data."),
        ("id,n\n1,\udcff\n", "The file is not in UTF-8."),
    ],
)
def test_rows_that_are_none(text, reason):
    """
    The line and the reason are said.
    """
    mapped = Mapped("/users/{id}", "POST", mapping_of(["n:number=n"]))
    source = io.BytesIO(text.encode(errors="surrogateescape"))
    with pytest.raises(UsageProblem) as problem:
        list(read_csv(source, mapped))

    assert problem.value.message.startswith(reason)


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "[1e999]", "{"])
def test_json_in_a_row_is_json(value):
    """
    What Python also reads would reach the app as null.
    """
    mapped = Mapped("/users", "POST", mapping_of(["n:json=n"]))
    with pytest.raises(UsageProblem, match="Line 2: n is no json: "):
        from_csv(f"n\n{value}\n", mapped)


def test_a_source_tells_forms_apart(tmp_path):
    """
    By what is in the file; operations without an id have their number.
    """
    document, lines = tmp_path / "a.json", tmp_path / "b.json"
    document.write_text(json.dumps([GET, {"method": "GET", "path": "/b"}]))
    lines.write_text(f'{json.dumps(GET)}\n{{"method": "GET", "path": "/b"}}\n')
    read = [list(Source(str(file), None).operations()) for file in (document, lines)]

    assert read[0] == read[1] == [GET, {"id": "1", "method": "GET", "path": "/b"}]
    assert Source(str(document), None).count() == 2
    assert Source(str(document), None).fingerprint() != Source(str(lines), None).fingerprint()


def test_csv_needs_a_path(tmp_path):
    """
    And a file that is not there is named.
    """
    file = tmp_path / "a.CSV"
    file.write_text("id\n1\n")

    with pytest.raises(UsageProblem, match="--path"):
        Source(str(file), None).count()
    with pytest.raises(UsageProblem, match="No such file"):
        Source(str(tmp_path / "none"), None).count()
