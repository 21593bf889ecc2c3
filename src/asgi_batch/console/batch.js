// One batch: how far it is, and what can be done with it.

class BatchView {
  constructor(server, onRetry) {
    this.server = server;
    this.chart = new Chart();
    this.results = new Results();
    this.following = new AbortController();
    byId("cancel").addEventListener("click", () => this.attempt(() => this.cancel()));
    byId("retry").addEventListener("click", () => this.attempt(() => this.retry(onRetry)));
    byId("download").addEventListener("click", () => {
      this.results.download(this.id ? `batch-${this.id}.ndjson` : "batch.ndjson");
    });
  }

  // Do something, and show why if it cannot be done.
  async attempt(action) {
    tellRefusal(null);
    try {
      await action();
    } catch (error) {
      if (error.name !== "AbortError") tellRefusal(error);
    }
  }

  begin(id, callOf) {
    this.following.abort();
    this.following = new AbortController();
    this.id = id;
    this.callOf = callOf;
    this.share = 0;
    this.chart.clear();
    this.results.clear();
    byId("parent").replaceChildren();
    byId("trouble").textContent = "";
    const place = byId("permalink");
    show(place, id !== null);
    if (id !== null) {
      place.href = `${this.server.base}/${id}`;
      place.textContent = id;
    }
    show(byId("batch"), true);
  }

  // Show what came with the answer to a small batch.
  showAnswer(text, callOf) {
    this.begin(null, callOf);
    const spans = scanJson(text);
    const lines = [];
    for (let index = 0; spans.has(`/results/${index}`); index += 1) {
      // Between the tokens of JSON a space is as good as the end of a line.
      lines.push(text.slice(...spans.get(`/results/${index}`)).replace(/[\r\n]+/g, " "));
    }
    this.results.add(lines, callOf);
    const summary = JSON.parse(text.slice(...spans.get("/summary")));
    const completed = summary.total;
    this.tell({ ...summary, completed, status: "completed", finishedAt: "now" });
  }

  // Show a batch that runs in the background, until it is finished.
  async follow(id, callOf) {
    this.begin(id, callOf);
    const { signal } = this.following;
    const onTrouble = (text) => {
      byId("trouble").textContent = text;
    };
    for await (const status of this.server.follow(id, signal, onTrouble)) {
      signal.throwIfAborted();
      this.tell(status);
      this.chart.add(status);
      await this.fetchResults(status, signal, onTrouble);
    }
  }

  async fetchResults(status, signal, onTrouble) {
    while (this.results.known < status.completed) {
      const lines = await this.server.results(this.id, this.results.known, signal, onTrouble);
      // Those of the operations before have not all come in yet.
      if (lines.length === 0) return;
      signal.throwIfAborted();
      this.results.add(lines, this.callOf);
    }
  }

  tell(status) {
    this.status = status;
    const { completed, total } = status;
    const isFinished = status.finishedAt !== null;
    const share = completed / total;
    byId("state").textContent = status.status;
    byId("state").className = `mark ${status.status}`;
    byId("counts").textContent = this.counts(status);
    if (status.error) byId("trouble").textContent = `The batch has failed: ${status.error.code}.`;
    const bar = byId("bar");
    bar.setAttribute("aria-valuenow", String(Math.floor(share * 100)));
    bar.setAttribute("aria-valuetext", `${percentage(share)}, ${completed} of ${total}`);
    for (const outcome of OUTCOMES) {
      byId(`bar-${outcome}`).style.width = `${(100 * status[outcome]) / total}%`;
      byId(`number-${outcome}`).textContent = status[outcome].toLocaleString("en");
    }
    if (status.parent) {
      const link = make("a", { href: `${this.server.base}/${status.parent}` }, status.parent);
      byId("parent").replaceChildren("Retries ", link);
    }
    byId("cancel").disabled = isFinished || status.status !== "processing";
    byId("retry").disabled = !this.canBeRetried;
    byId("download").disabled = completed === 0;
    this.announce(status, share, isFinished);
  }

  counts({ completed, total, createdAt, updatedAt }) {
    const text = `${completed.toLocaleString("en")} of ${counted(total, "operation")}, ${percentage(completed / total)}`;
    const elapsed = (Date.parse(updatedAt) - Date.parse(createdAt)) / 1000;
    return elapsed > 0 ? `${text}, ${seconds(elapsed)}` : text;
  }

  // Each quarter, and the end: more would talk over everything else.
  announce(status, share, isFinished) {
    const quarter = Math.floor(share * 4);
    if (isFinished) {
      const parts = OUTCOMES.map((outcome) => `${status[outcome]} ${outcome}`).join(", ");
      announce(`The batch is ${status.status}: ${parts}.`);
    } else if (quarter > this.share) {
      announce(`${quarter * 25} percent`);
    }
    this.share = quarter;
  }

  // Ids of the operations that have not succeeded.
  get unsuccessful() {
    return new Set(this.results.all.filter((each) => each.outcome !== "succeeded").map((each) => each.id));
  }

  get canBeRetried() {
    return this.status.finishedAt !== null && this.status.succeeded < this.status.total;
  }

  // Once, however often it is asked for.
  async retry(onRetry) {
    byId("retry").disabled = true;
    try {
      await onRetry(this);
    } finally {
      byId("retry").disabled = !this.canBeRetried;
    }
  }

  async cancel() {
    const status = await this.server.cancel(this.id);
    if (this.status.finishedAt === null) this.tell(status);
  }
}
