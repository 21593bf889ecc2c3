"""
The tables of the shop, and the sessions that endpoints work with.
"""

import os
from typing import Annotated

from fastapi import Depends
from sqlalchemy import ForeignKey
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from asgi_batch.contrib.sqlalchemy import Database

engine = create_async_engine(
    os.environ.get("DATABASE_URL", "sqlite+aiosqlite:///shop.db"), echo="ECHO" in os.environ
)
database = Database(engine)

Session = Annotated[AsyncSession, Depends(database.dependency)]


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]


class Product(Base):
    __tablename__ = "products"

    name: Mapped[str] = mapped_column(primary_key=True)
    stock: Mapped[int]


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id))
    product: Mapped[str] = mapped_column(ForeignKey(Product.name))
    quantity: Mapped[int]
