// Nothing here is to be found.
import { fetch as lookup, get } from "./cache";

fetch("/once");

function outside(xs, cache, map, button) {
  for (const x of fetch("/list")) use(x);
  for (const x of xs) {
    cache.get(x);
    map.get(x);
    lookup(x);
    get(x);
    $.ajax(`/x/${x}`);
    button.addEventListener("click", () => fetch(`/no/${x}`));
    const later = () => fetch(`/no/${x}`);
    later.push(function named() { return fetch("/no"); }.name);
  }
  return xs.map((x) => ({ run: () => fetch(`/no/${x}`) }));
}

async function again(xs) {
  for (let i = 0; i < 3; i++) {
    try { return await fetch("/retry"); } catch { continue; }
  }
  while (true) {
    const state = await fetch("/poll");
    if (state.ok) break;
  }
  let url = "/page";
  while (url) {
    const page = await fetch(url).then((response) => response.json());
    url = page.next;
  }
}

function shadowed(fetch, xs) {
  for (const x of xs) fetch(`/no/${x}`);
}

function recursive(x) {
  fetch(`/no/${x}`);
  recursive(x);
}

class Cache {
  get(key) { return this.store.get(key); }
  all(keys) { return keys.map((key) => this.get(key)); }
}

tag`/no/${fetch}`;
