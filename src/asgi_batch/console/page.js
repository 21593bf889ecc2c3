// The page: which of its views this is, and what its buttons do.

const isComposing = document.body.dataset.view === "compose";
// Of a batch, the last part of the path is its id.
const [base, batchId] = isComposing
  ? [location.pathname, null]
  : [location.pathname.replace(/\/[^/]*$/, ""), location.pathname.replace(/^.*\//, "")];

const server = new Server(base);
const view = new BatchView(server, retry);
const composer = isComposing ? new Composer() : null;
// What was sent last; who edits on does not change it.
let sent = null;
let isSending = false;

server.headers = () =>
  byId("headers")
    .value.split("\n")
    .filter((line) => line.trim() !== "")
    .map((line) => line.split(/:(.*)/s, 2).map((part) => part.trim()))
    .map(([name, value = ""]) => [name, value]);

function tellRefusal(error) {
  const place = byId("refusal");
  show(place, error !== null);
  place.replaceChildren();
  if (error === null) return;
  const problem = error.problem ?? {};
  place.append(make("strong", {}, problem.title ?? "This did not work"), make("p", {}, error.message));
  const errors = problem.errors ?? [];
  if (errors.length > 0) place.append(make("ul", {}, ...errors.map(problemOf)));
  if (problem.omitted) place.append(make("p", {}, `There are ${problem.omitted} more.`));
}

// One of the things that are wrong with a batch, and the way to its line.
function problemOf({ pointer, detail, id }) {
  const text = id === undefined ? detail : `${id}: ${detail}`;
  if (sent === null || sent.text !== composer?.editor.value) return make("li", {}, text);
  const offset = sent.offsetOf(pointer);
  const { line } = placeOf(sent.text, offset);
  const button = make("button", { type: "button", class: "plain" }, `Line ${line}`);
  button.addEventListener("click", () => composer.goTo(offset));
  return make("li", {}, button, ` ${text}`);
}

async function submit(body, isLater) {
  const calls = sent.calls();
  const callOf = (id) => calls.get(id) ?? "";
  tellSending(true);
  const { isAccepted, text } = await server.submit(body, isLater).finally(() => tellSending(false));
  if (isAccepted) {
    const accepted = JSON.parse(text);
    announce(`The batch is accepted: ${counted(accepted.total, "operation")}.`);
    await view.follow(accepted.batchId, callOf);
  } else {
    view.showAnswer(text, callOf);
  }
}

function tellSending(isTrue) {
  isSending = isTrue;
  byId("sending").textContent = isTrue ? "Sending …" : "Ctrl and Enter send, too.";
}

async function send(isLater) {
  // A second click must not send the same again.
  if (isSending) return;
  const draft = composer.check();
  if (draft.fault) {
    composer.goTo(draft.fault.offset);
    return;
  }
  sent = draft;
  await view.attempt(() => submit(draft.body, isLater));
}

// What has not succeeded, again: by the server where it keeps the batch, else from what was sent.
async function retry({ id, unsuccessful, callOf }) {
  if (id === null) {
    await submit(sent.bodyOf(unsuccessful), false);
    return;
  }
  const accepted = await server.retry(id);
  if (isComposing) await view.follow(accepted.batchId, callOf);
  else location.assign(`${base}/${accepted.batchId}`);
}

async function load() {
  await view.attempt(async () => {
    if (!ID.test(batchId)) throw new Error("This is not the id of a batch.");
    await view.follow(batchId, () => "");
  });
}

async function tellLimits() {
  const limits = await server.limits();
  byId("limits").textContent =
    `Up to ${counted(limits.maxOperations, "operation")} and ${bytes(limits.maxBodyBytes)}. ` +
    `More than ${limits.syncOperations} are carried out in the background.`;
}

if (isComposing) {
  byId("form").addEventListener("submit", (event) => {
    event.preventDefault();
    send(event.submitter?.id === "send-later");
  });
  byId("document").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send(false);
  });
  tellLimits().catch(() => {});
} else {
  byId("home").href = base;
  byId("title").textContent = "One batch";
  document.title = `Batch ${batchId.slice(0, 8)}`;
  byId("form").addEventListener("submit", (event) => {
    event.preventDefault();
    load();
  });
  load();
}
