// The editor: text that is checked as it is typed, and becomes the body of a batch request.

const DELAY = 150;

// A batch as it stands in a text, or what is wrong with the text.
class Draft {
  constructor(text) {
    this.text = text;
    this.fault = null;
    // Whether another operation can be put at the end.
    this.isOpen = text.trim() === "";
    try {
      this.read();
    } catch (error) {
      if (!(error instanceof JsonFault)) throw error;
      this.fault = error;
    }
  }

  read() {
    if (this.text.trim() === "") throw new JsonFault("Write the operations of a batch.", 0);
    this.spans = scanJson(this.text);
    // The array alone will do; the rest of the batch is then written around it.
    this.prefix = this.text.trimStart().startsWith("[") ? "" : "/operations";
    const start = this.startOf(this.prefix);
    if (start === undefined || this.text[start] !== "[") {
      throw new JsonFault('Write {"operations": […]}, or the array alone.', this.startOf("/operations") ?? 0);
    }
    this.isOpen = true;
    this.count = 0;
    while (this.spans.has(`${this.prefix}/${this.count}`)) this.check(this.count++);
    if (this.count === 0) throw new JsonFault("There is no operation yet.", start);
  }

  startOf(pointer) {
    return this.spans.get(pointer)?.[0];
  }

  part(pointer) {
    const span = this.spans.get(pointer);
    return span && this.text.slice(...span);
  }

  check(index) {
    const pointer = `${this.prefix}/${index}`;
    for (const name of ["method", "path"]) {
      if (!this.part(`${pointer}/${name}`)?.startsWith('"')) {
        throw new JsonFault(`Operation ${index} needs a ${name}, a string.`, this.startOf(pointer));
      }
    }
  }

  get body() {
    return this.prefix === "" ? `{"operations": ${this.text.trim()}}` : this.text;
  }

  // Where something stands that the server has found wrong.
  offsetOf(pointer) {
    const names = pointer.split("/");
    for (; names.length > 1; names.pop()) {
      const start = this.startOf(this.prefix + names.join("/").slice("/operations".length));
      if (start !== undefined) return start;
    }
    return 0;
  }

  idOf(index) {
    const id = this.part(`${this.prefix}/${index}/id`);
    return id?.startsWith('"') ? JSON.parse(id) : String(index);
  }

  // Which request an id stands for.
  calls() {
    const calls = new Map();
    for (let index = 0; index < this.count; index += 1) {
      const [method, path] = ["method", "path"].map((name) =>
        JSON.parse(this.part(`${this.prefix}/${index}/${name}`)),
      );
      calls.set(this.idOf(index), `${method} ${path}`);
    }
    return calls;
  }

  // The body of a batch of those operations only whose ids are given; ids stay what they were.
  bodyOf(ids) {
    const chosen = [];
    for (let index = 0; index < this.count; index += 1) {
      const pointer = `${this.prefix}/${index}`;
      if (!ids.has(this.idOf(index))) continue;
      const name = this.spans.has(`${pointer}/id`) ? "" : `"id": "${index}", `;
      chosen.push(`{${name}${this.part(pointer).slice(1)}`);
    }
    const operations = `[\n  ${chosen.join(",\n  ")}\n]`;
    if (this.prefix === "") return `{"operations": ${operations}}`;
    const [start, end] = this.spans.get(this.prefix);
    return this.text.slice(0, start) + operations + this.text.slice(end);
  }

  // The text with one more operation.
  with(operation) {
    if (this.text.trim() === "") return `{"operations": [\n  ${operation}\n]}`;
    const end = this.spans.get(this.prefix)[1] - 1;
    const before = this.text.slice(0, end).trimEnd();
    const comma = before.endsWith("[") ? "" : ",";
    return `${before}${comma}\n  ${operation}\n${this.text.slice(end)}`;
  }
}

class Composer {
  constructor() {
    this.editor = byId("document");
    this.gutter = byId("gutter");
    this.lines = 0;
    this.timer = 0;
    this.editor.addEventListener("input", () => {
      this.countLines();
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.check(), DELAY);
    });
    this.editor.addEventListener("scroll", () => {
      this.gutter.scrollTop = this.editor.scrollTop;
    });
    byId("to-fault").addEventListener("click", () => this.goTo(this.draft.fault.offset));
    byId("add").addEventListener("click", () => this.add());
    this.countLines();
    this.check();
  }

  countLines() {
    const lines = this.editor.value.split("\n").length;
    if (lines === this.lines) return;
    this.lines = lines;
    this.gutter.style.width = `${String(lines).length + 3}ch`;
    this.gutter.textContent = Array.from({ length: lines }, (_, index) => index + 1).join("\n");
  }

  check() {
    this.draft = new Draft(this.editor.value);
    const { fault, count, text } = this.draft;
    if (fault) {
      const { line, column } = placeOf(text, fault.offset);
      byId("check").textContent = `Line ${line}, column ${column}: ${fault.message}`;
    } else {
      byId("check").textContent = `${counted(count, "operation")}, ${bytes(new Blob([text]).size)}`;
    }
    byId("check").classList.toggle("wrong", fault !== null);
    this.editor.setAttribute("aria-invalid", String(fault !== null));
    show(byId("to-fault"), fault !== null);
    return this.draft;
  }

  goTo(offset) {
    const { line } = placeOf(this.editor.value, offset);
    this.editor.focus();
    this.editor.setSelectionRange(offset, offset + 1);
    const height = this.editor.scrollHeight / this.lines;
    this.editor.scrollTop = Math.max(0, (line - 3) * height);
  }

  // Put what was filled in at the end of the operations.
  add() {
    const draft = this.check();
    const note = byId("add-note");
    const body = byId("add-body").value.trim();
    try {
      if (body) scanJson(body);
    } catch (error) {
      note.textContent = `Body, line ${placeOf(body, error.offset).line}: ${error.message}`;
      return;
    }
    if (!draft.isOpen) {
      note.textContent = "Correct the operations first.";
      return;
    }
    const parts = [
      `"method": ${JSON.stringify(byId("add-method").value)}`,
      `"path": ${JSON.stringify(byId("add-path").value)}`,
      ...(body ? [`"body": ${body}`] : []),
    ];
    this.editor.value = draft.with(`{${parts.join(", ")}}`);
    this.countLines();
    this.check();
    note.textContent = "Added.";
  }
}
