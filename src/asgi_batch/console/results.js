// The table of results, and what of it is shown.

const ROWS_AT_ONCE = 200;
const PREVIEW_LENGTH = 120;

class Result {
  constructor(text, call) {
    this.text = text;
    this.call = call;
    const spans = scanJson(text);
    const part = (name) => (spans.has(name) ? text.slice(...spans.get(name)) : "");
    this.id = JSON.parse(part("/id"));
    this.status = Number(part("/status"));
    this.isOwn = part("/source") === '"batch"';
    this.encoding = JSON.parse(part("/encoding") || '""');
    this.headers = Object.entries(JSON.parse(part("/headers") || "{}"));
    this.body = part("/result") || part("/error");
    this.outcome = this.status < 400 ? "succeeded" : this.isOwn && this.status === 424 ? "skipped" : "failed";
  }

  has(wanted) {
    return `${this.call} ${this.text}`.toLowerCase().includes(wanted);
  }

  // The body in one line.
  get preview() {
    const text = this.body.slice(0, 4 * PREVIEW_LENGTH).replace(/\s+/g, " ");
    return text.length > PREVIEW_LENGTH ? `${text.slice(0, PREVIEW_LENGTH)}…` : text;
  }

  // Headers and body as people read them; text is shown without its quotes.
  get details() {
    const shown = this.headers.map(([name, value]) => `${name}: ${value}`);
    if (this.encoding) shown.push(`encoding: ${this.encoding}`);
    if (shown.length > 0) shown.push("");
    shown.push(this.body.startsWith('"') ? JSON.parse(this.body) : indented(this.body));
    return shown.join("\n").trim();
  }
}

class Results {
  constructor() {
    this.body = byId("rows");
    this.clear();
    byId("filters").addEventListener("input", () => this.refresh());
    byId("filters").addEventListener("submit", (event) => event.preventDefault());
    byId("more").addEventListener("click", () => this.showMore());
  }

  clear() {
    this.all = [];
    this.refresh();
  }

  get known() {
    return this.all.length;
  }

  add(lines, callOf) {
    const added = lines.map((line) => {
      const result = new Result(line, "");
      result.call = callOf(result.id);
      return result;
    });
    this.all.push(...added);
    this.take(added.filter((each) => this.isWanted(each)));
  }

  // Begin anew with what the filters let through.
  refresh() {
    const form = byId("filters");
    this.outcome = form.elements.outcome.value;
    this.wanted = form.elements.wanted.value.trim().toLowerCase();
    this.waiting = [];
    this.matches = 0;
    this.body.replaceChildren();
    this.take(this.all.filter((each) => this.isWanted(each)));
  }

  isWanted(result) {
    return (this.outcome === "all" || result.outcome === this.outcome) && result.has(this.wanted);
  }

  take(results) {
    this.matches += results.length;
    const room = Math.max(0, ROWS_AT_ONCE - this.body.childElementCount);
    this.body.append(...results.slice(0, room).map(rowOf));
    this.waiting.push(...results.slice(room));
    this.tell();
  }

  showMore() {
    const last = this.body.lastElementChild;
    this.body.append(...this.waiting.splice(0, ROWS_AT_ONCE).map(rowOf));
    this.tell();
    last.nextElementSibling?.querySelector("summary")?.focus();
  }

  tell() {
    const shown = this.body.childElementCount;
    const isPart = this.matches < this.all.length || shown < this.matches;
    const found = `${this.matches.toLocaleString("en")} of ${counted(this.all.length, "result")}`;
    const text = isPart ? found : counted(this.all.length, "result");
    byId("shown").textContent = shown < this.matches ? `${text}, the first ${shown} are shown` : text;
    show(byId("more"), this.waiting.length > 0);
    show(byId("table"), this.matches > 0);
  }

  download(name) {
    const blob = new Blob(this.all.map((each) => `${each.text}\n`), { type: "application/x-ndjson" });
    const url = URL.createObjectURL(blob);
    make("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }
}

function rowOf(result) {
  const name = make("th", { scope: "row", role: "rowheader" }, make("span", { class: "id" }, result.id));
  if (result.call) name.append(make("span", { class: "call" }, result.call));
  const status = make("td", { role: "cell" }, make("span", { class: `mark ${result.outcome}` }, result.outcome));
  status.append(make("span", { class: "code" }, String(result.status)));
  if (result.isOwn) status.append(make("span", { class: "source" }, "by asgi_batch"));
  return make("tr", { role: "row" }, name, status, make("td", { role: "cell" }, answerOf(result)));
}

function answerOf(result) {
  if (result.body === "" && result.headers.length === 0) {
    return make("span", { class: "nothing" }, "no body");
  }
  const full = make("pre", { tabindex: "0", role: "group", "aria-label": `Answer to ${result.id}` });
  const summary = make("summary", {}, result.preview || "headers only");
  const details = make("details", {}, summary, full);
  details.addEventListener("toggle", () => {
    full.textContent = details.open ? result.details : "";
  });
  return details;
}
