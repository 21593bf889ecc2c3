import requests; [requests.get(f"/{i}") for i in range(9)]
