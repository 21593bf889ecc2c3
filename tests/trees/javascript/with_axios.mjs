// Calls of axios; those in loops end with a comment that says what is to be found.
import axios, { isAxiosError as isError } from "axios";
import * as all from "axios";

const api = axios.create({ baseURL: "/v1" });
const other = api || axios;

export async function calls(ids) {
  for (const id of ids) {
    await axios.get(`/a/${id}`); // LOOP GET /a/{id}
    await api.post("/b/" + id, {}); // LOOP POST /b/{id}
    await axios({ method: "put", url: `/c/${id}` }); // LOOP PUT /c/{id}
    await axios(`/d/${id}`, { method: "delete" }); // LOOP DELETE /d/{id}
    await api.request({ url: `/e/${id}`, method: "PATCH" }); // LOOP PATCH /e/{id}
    await api.postForm(`/f/${id}`, {}); // LOOP POST /f/{id}
    await other.get("/g", { params: { id: id } }); // LOOP GET /g?id={id}
    await all.default.head(`/h/${id}`); // LOOP HEAD /h/{id}
    await axios.get(new URL(`/i/${id}`, "https://example.com")); // LOOP GET /i/{id}
    if (isError(id)) console.log(axios.isCancel(id), axios.defaults);
  }
  await Promise.all(ids.map((id) => service.get(id))); // LOOP GET /svc/{key}
  await Promise.all(ids.map(service.find)); // LOOP GET /found/{key}
  await Promise.all(ids.map(api.get)); // LOOP GET /{url}
}

const service = {
  get(key) { return api.get(`/svc/${key}`); },
  find: (key) => api.get(`/found/${key}`),
  api,
  ...calls,
};

class Users {
  http = axios.create();
  #hidden = 1;
  constructor(http) { this.other = http ? axios : axios.create(); }
  async one(id) { return this.http.get(`/one/${id}`); }
  async all(ids) {
    for await (const id of ids) this.one(id); // LOOP GET /one/{id}
    for (const id of ids) this.other.get(`/other/${id}`); // LOOP GET /other/{id}
    for (const id of ids) await given(this.http, id); // LOOP GET /given/{id}
    while (ids.next) this.current = ids.next, this.http.get(`/at/${this.current}`); // LOOP GET /at/{current}
  }
}

async function given(http, id) {
  return http.get(`/given/${id}`);
}

const kept = {};
kept.http = axios.create();

export async function changed(rows) {
  const body = [];
  for (const row of rows) {
    body.push(row);
    await axios.post("/rows", body); // LOOP POST /rows
  }
}
