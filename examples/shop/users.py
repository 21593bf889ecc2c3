"""
Users, one by one for whoever asks, and by the hundred for the database.
"""

from typing import Annotated

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from asgi_batch import bulk

from .database import User, database, engine

router = APIRouter()


class NewUser(BaseModel):
    email: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")]
    name: Annotated[str, Field(min_length=1)]


class KnownUser(NewUser):
    id: int


# One that makes a statement which may find a conflict, in the dialect of the database.
insert = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[engine.dialect.name]


# A busy machine may take more than a second, which is the default, to bring 500 users together.
@bulk(max_size=500)
async def insert_users(users: list[NewUser]) -> list[User | HTTPException]:
    """
    Insert all users whose addresses are free, by one statement; in the place of others is an error.

    An exception undoes all. A batch then tries halves, until the user to blame is alone.
    """
    new = [user.model_dump() for user in users]
    async with database.session() as session:
        inserted = await session.scalars(insert(User).on_conflict_do_nothing().returning(User), new)
        # They come in any order.
        rows = {user.email: user for user in inserted}
        await session.commit()
    # Of two users with the same address the first has the row.
    return [
        rows.pop(user.email, None) or HTTPException(409, "This address is taken.") for user in users
    ]


@bulk(max_size=500, unique=True)
async def find_users(ids: list[int]) -> list[User | None]:
    """
    Read all users by one statement.
    """
    async with database.session() as session:
        found = await session.scalars(select(User).where(User.id.in_(ids)))
        users = {user.id: user for user in found}
    return [users.get(each) for each in ids]


@router.post("/users", status_code=201, response_model=KnownUser)
async def create_user(user: NewUser) -> User:
    return await insert_users(user)


@router.get("/users/{user_id}", response_model=KnownUser)
async def read_user(user_id: int) -> User:
    user = await find_users(user_id)
    if user is None:
        raise HTTPException(404, "There is no such user.")
    return user
