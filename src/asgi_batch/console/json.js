// JSON as text: where each value stands, which JSON.parse does not tell. Values are handed on as they
// were written, so that 1.0 stays 1.0 and long numbers stay what they are.

// Pointers are kept down to a header of an operation: /operations/0/headers/accept.
const POINTER_DEPTH = 4;
const MAX_DEPTH = 1000;

const BLANK = /[ \t\n\r]*/y;
const STRING = /"[^"\\\u0000-\u001f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\u0000-\u001f]*)*"/y;
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const WORD = /true|false|null/y;
const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;

class JsonFault extends Error {
  constructor(message, offset) {
    super(message);
    this.offset = offset;
  }
}

class JsonScanner {
  constructor(text) {
    this.text = text;
    this.at = 0;
    // Of each value by its JSON pointer: where it begins and ends.
    this.spans = new Map();
  }

  // Read the whole text, or throw a JsonFault.
  scan() {
    this.blank();
    this.value("", 0);
    this.blank();
    if (this.at < this.text.length) {
      throw new JsonFault("There is something after the end.", this.at);
    }
    return this.spans;
  }

  match(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found === null) return null;
    this.at = pattern.lastIndex;
    return found[0];
  }

  blank() {
    this.match(BLANK);
  }

  takes(character) {
    if (this.text[this.at] !== character) return false;
    this.at += 1;
    return true;
  }

  value(pointer, depth) {
    if (depth > MAX_DEPTH) throw new JsonFault("This is nested too deeply.", this.at);
    const start = this.at;
    const first = this.text[start];
    if (first === "{") this.members(pointer, depth);
    else if (first === "[") this.elements(pointer, depth);
    else if (first === '"') this.string();
    else if (this.match(NUMBER) === null && this.match(WORD) === null) this.fail("a value");
    if (depth <= POINTER_DEPTH) this.spans.set(pointer, [start, this.at]);
  }

  members(pointer, depth) {
    this.at += 1;
    this.blank();
    if (this.takes("}")) return;
    do {
      this.blank();
      if (this.text[this.at] !== '"') this.fail("the name of a member in double quotes");
      const name = this.string();
      this.blank();
      if (!this.takes(":")) this.fail('":"');
      this.blank();
      this.value(depth < POINTER_DEPTH ? `${pointer}/${escaped(name)}` : "", depth + 1);
      this.blank();
    } while (this.takes(","));
    if (!this.takes("}")) this.fail('"," or "}"');
  }

  elements(pointer, depth) {
    this.at += 1;
    this.blank();
    if (this.takes("]")) return;
    let index = 0;
    do {
      this.blank();
      this.value(`${pointer}/${index}`, depth + 1);
      this.blank();
      index += 1;
    } while (this.takes(","));
    if (!this.takes("]")) this.fail('"," or "]"');
  }

  string() {
    const start = this.at;
    const found = this.match(STRING);
    if (found !== null) return found;
    let end = start + 1;
    for (; end < this.text.length && this.text[end] !== '"'; end += 1) {
      if (this.text[end] < " ") throw new JsonFault("This string has no end on its line.", start);
      if (this.text[end] === "\\") {
        if (!/^\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/.test(this.text.slice(end, end + 6))) {
          throw new JsonFault("This is no escape of JSON.", end);
        }
        end += 1;
      }
    }
    throw new JsonFault("This string has no end.", start);
  }

  fail(wanted) {
    const found = this.text[this.at];
    if (found === undefined) throw new JsonFault(`The text ends where ${wanted} is expected.`, this.at);
    if (found === "'") throw new JsonFault("Strings are written in double quotes.", this.at);
    if ("]}".includes(found) && /,\s*$/.test(this.text.slice(Math.max(0, this.at - 200), this.at))) {
      throw new JsonFault("There is a comma too many before this.", this.at);
    }
    throw new JsonFault(`Here is “${found}” where ${wanted} is expected.`, this.at);
  }
}

// A name as it stands in a JSON pointer.
function escaped(name) {
  return JSON.parse(name).replaceAll("~", "~0").replaceAll("/", "~1");
}

function scanJson(text) {
  return new JsonScanner(text).scan();
}

// Line and column of a place in a text, counted from 1.
function placeOf(text, offset) {
  const before = text.slice(0, offset);
  return { line: before.split("\n").length, column: offset - before.lastIndexOf("\n") };
}

// A JSON text on several lines; its values stay as they were written.
function indented(text) {
  let margin = "\n";
  let last = "";
  let shown = "";
  for (const [token] of text.matchAll(TOKEN)) {
    const isClosing = token === "}" || token === "]";
    const isOpened = last === "{" || last === "[";
    if (isClosing) margin = margin.slice(0, -2);
    if (last === ":") shown += " ";
    else if (last !== "" && last !== "," && !isOpened && isClosing) shown += margin;
    else if (last === "," || (isOpened && !isClosing)) shown += margin;
    shown += token;
    if (token === "{" || token === "[") margin += "  ";
    last = token;
  }
  return shown;
}
