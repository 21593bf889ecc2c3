import httpx


def run(ids):
    for i in ids:
        httpx.get(f"/jobs/{i}")  # LOOP GET /jobs/{i}
