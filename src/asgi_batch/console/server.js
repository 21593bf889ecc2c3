// What is asked of the batch endpoint. Cookies go along as with any request of this site; headers that
// were entered are kept in the page and nowhere else.

const ID = /^[A-Za-z0-9_-]{22,64}$/;
const PAGE_SIZE = 1000;
// Milliseconds before a server is asked again that could not be reached.
const PAUSE = 1000;
const UNREACHABLE = "The server cannot be reached; trying again.";

// An answer that is not what was asked for.
class Refusal extends Error {
  constructor(status, problem) {
    super(problem.detail ?? problem.title ?? `The server answered with status ${status}.`);
    this.status = status;
    this.problem = problem;
  }

  static async of(response) {
    const type = response.headers.get("content-type") ?? "";
    const problem = type.startsWith("application/problem+json") ? await response.json() : {};
    return new Refusal(response.status, problem);
  }
}

class Server {
  constructor(base) {
    this.base = base;
    this.headers = () => [];
  }

  async ask(path, { method = "GET", headers = {}, body, signal } = {}) {
    const all = new Headers(this.headers());
    for (const [name, value] of Object.entries(headers)) all.set(name, value);
    const options = { method, headers: all, body, signal, cache: "no-store", redirect: "error" };
    const response = await fetch(this.base + path, options);
    if (!response.ok) throw await Refusal.of(response);
    return response;
  }

  async limits() {
    return (await (await this.ask("", { method: "OPTIONS" })).json()).limits;
  }

  async submit(text, isLater) {
    const headers = { "content-type": "application/json" };
    if (isLater) headers.prefer = "respond-async";
    const response = await this.ask("", { method: "POST", headers, body: text });
    return { isAccepted: response.status === 202, text: await response.text() };
  }

  async status(id, signal) {
    return (await this.ask(`/${id}/status`, { signal })).json();
  }

  // Results as they were written, one a string, after the first `known` of them.
  async results(id, known, signal, onTrouble) {
    const headers = { accept: "application/x-ndjson" };
    const query = `after=${known - 1}&limit=${PAGE_SIZE}`;
    for (;;) {
      try {
        const response = await this.ask(`/${id}/results?${query}`, { headers, signal });
        return (await response.text()).split("\n").filter((line) => line !== "");
      } catch (error) {
        if (signal.aborted || error instanceof Refusal) throw error;
        onTrouble(UNREACHABLE);
        await pause(PAUSE, signal);
        onTrouble("");
      }
    }
  }

  async cancel(id) {
    return (await this.ask(`/${id}`, { method: "DELETE" })).json();
  }

  async retry(id) {
    return (await this.ask(`/${id}/retry`, { method: "POST" })).json();
  }

  // The status of a batch, each time that it has changed, until the batch is finished.
  async *follow(id, signal, onTrouble) {
    let status = await this.status(id, signal);
    yield status;
    const seen = { id: "" };
    while (status.finishedAt === null) {
      try {
        for await (status of this.events(id, seen, signal)) {
          onTrouble("");
          yield status;
        }
        if (status.finishedAt === null) await pause(PAUSE, signal);
      } catch (error) {
        if (signal.aborted) throw error;
        onTrouble(error instanceof Refusal ? "" : UNREACHABLE);
        if (error instanceof Refusal && error.status !== 503) throw error;
        await pause(PAUSE, signal);
        if (error instanceof Refusal) yield (status = await this.status(id, signal));
      }
    }
  }

  // Server-sent events, read by hand: EventSource sends no headers and tells of no status.
  async *events(id, seen, signal) {
    const headers = { accept: "text/event-stream", "last-event-id": seen.id };
    const response = await this.ask(`/${id}/events`, { headers, signal });
    if (response.status === 204) return;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const fields = new Map(block.split("\n").map((line) => line.split(/: (.*)/s, 2)));
        if (!fields.has("data")) continue;
        seen.id = fields.get("id");
        yield JSON.parse(fields.get("data"));
      }
    }
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
