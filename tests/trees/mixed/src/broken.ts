for (const x of xs) { fetch(`/part/${x}`); // LOOP GET /part/{x}
} function (
