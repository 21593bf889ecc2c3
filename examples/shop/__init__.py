"""
A shop on FastAPI and SQLAlchemy: many users by one INSERT, and orders that happen together or not.

``DATABASE_URL`` says where its tables are, such as ``postgresql+asyncpg://localhost/shop``; without
it they are in the SQLite file ``shop.db``. With ``ECHO=1`` each statement is logged. Run it from
the clone, and send a batch::

    uvicorn examples.shop.app:app
    curl http://127.0.0.1:8000/batch -H "content-type: application/json" -d '{"operations": [
        {"method": "POST", "path": "/users", "body": {"email": "ada@example.com", "name": "Ada"}},
        {"method": "POST", "path": "/users", "body": {"email": "bob@example.com", "name": "Bob"}}
    ]}'

``make demo`` shows what becomes of larger ones.
"""
