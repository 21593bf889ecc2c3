import httpx
def broken(:
