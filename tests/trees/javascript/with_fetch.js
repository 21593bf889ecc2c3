// Calls of fetch; those in loops end with a comment that says what is to be found.
import load from "node-fetch";
import pMap from "p-map";

const BASE = "https://api.example.com/v1";

async function inLoops(users, queue) {
  for (const user of users) {
    await fetch(`${BASE}/users/${user.id}`, { method: "PUT", body: "{}" }); // LOOP PUT /v1/users/{id}
  }
  for (let i = 0; i < users.length; i++) {
    await window.fetch("/a/" + i); // LOOP GET /a/{i}
  }
  for (const key in users) {
    setTimeout(() => fetch(`/b/${key}`), 10); // LOOP GET /b/{key}
  }
  for await (const user of users) {
    await load(BASE + "/c/" + encodeURIComponent(user)); // LOOP GET /v1/c/{user}
  }
  while (queue.length) {
    await fetch("/d/" + queue.shift()); // LOOP GET /d/{shift}
  }
  do {
    const next = queue[0];
    await fetch(`/e/${next["id"]}/${queue[1]}`); // LOOP GET /e/{id}/{queue}
    await fetch(`/e/${[next][0]}/${next ? 1 : 2}/${1}`); // LOOP GET /e/{value}/{value}/1
  } while (queue.length);
  for (;;) {
    const id = take();
    await fetch(new Request(`/f/${id}`)); // LOOP GET /f/{id}
  }
}

async function inCallbacks(ids) {
  ids.forEach((id) => fetch(`/g/${id}`)); // LOOP GET /g/{id}
  await Promise.all(ids.map(async (id) => (await fetch(`/h/${id}`)).json())); // LOOP GET /h/{id}
  await Promise.allSettled(ids.map((id) => one(id))); // LOOP GET /one/{key}
  await Promise.all(ids.map(one)); // LOOP GET /one/{key}
  Array.from(ids, (id) => fetch("/i/" + id.toString())); // LOOP GET /i/{id}
  await pMap(ids, (id) => fetch(`/j/${id}`)); // LOOP GET /j/{id}
  ids.filter(Boolean).map(function (id) { return fetch(`/k/${id}`); }); // LOOP GET /k/{id}
  await ids.reduce((last, id) => last.then(() => fetch(`/l/${id}`)), null); // LOOP GET /l/{id}
  const limit = pLimit(3);
  await Promise.all(ids.map((id) => limit(() => fetch(`/m/${id}`)))); // LOOP GET /m/{id}
  ids.map(fetch); // LOOP GET /{url}
}

async function nested(a, b) {
  for (const i of a) for (const j of b) await fetch(`/n/${i}/${j}`); // LOOP GET /n/{i}/{j}
  for (const i of a) (async () => { await fetch(`/o/${i}`); })(); // LOOP GET /o/{i}
}

function one(key) {
  return fetch(`/one/${key}`).then((response) => response.json());
}

const twice = async (key) => one(key);

async function throughFunctions(ids) {
  for (const id of ids) await twice(id); // LOOP GET /one/{key}
}

for (const x of [1, 2, 3]) {
  const settings = { method: "POST" };
  fetch("/p", settings, x); // LOOP POST /p
}
