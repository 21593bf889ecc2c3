// The same with require.
const axios = require("axios");
const { fetch: send } = require("undici");
const load = require("cross-fetch");

module.exports = async function (ids) {
  for (const id of ids) {
    await axios.get("/a/" + String(id)); // LOOP GET /a/{id}
    await load(`/b/${id}`); // LOOP GET /b/{id}
    await send(`/c/${id}/${id + 1}`); // LOOP GET /c/{id}/{id}1
  }
};
