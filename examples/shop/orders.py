"""
Products, and orders that take from their stock.
"""

from typing import Annotated

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from .database import Order, Product, Session, User

router = APIRouter()


class Goods(BaseModel):
    name: Annotated[str, Field(min_length=1)]
    stock: Annotated[int, Field(ge=0)]


class NewOrder(BaseModel):
    user_id: int
    product: str
    quantity: Annotated[int, Field(ge=1)]


class KnownOrder(NewOrder):
    id: int


@router.post("/products", status_code=201)
async def create_product(goods: Goods, session: Session) -> Goods:
    session.add(Product(**goods.model_dump()))
    try:
        await session.commit()
    except IntegrityError:
        raise HTTPException(409, "There is such a product already.") from None
    return goods


@router.get("/products/{name}", response_model=Goods)
async def read_product(name: str, session: Session) -> Product:
    product = await session.get(Product, name)
    if product is None:
        raise HTTPException(404, "There is no such product.")
    return product


@router.post("/orders", status_code=201, response_model=KnownOrder)
async def create_order(new: NewOrder, session: Session) -> Order:
    """
    Take what is ordered from the stock.

    In a batch that is atomic, the commit is one of a savepoint: the order is there for the next
    operation, and for everybody once all have succeeded.
    """
    if await session.get(User, new.user_id) is None:
        raise HTTPException(404, "There is no such user.")
    enough = (Product.name == new.product, Product.stock >= new.quantity)
    taken = await session.execute(
        update(Product).where(*enough).values(stock=Product.stock - new.quantity)
    )
    if taken.rowcount == 0:
        raise HTTPException(409, f"There is not enough {new.product}.")
    session.add(order := Order(**new.model_dump()))
    await session.commit()
    return order
