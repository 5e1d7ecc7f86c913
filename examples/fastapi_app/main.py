"""An HTTP API for users with FastAPI: one data access for the process, and one transaction for each writing request.

Run it with `uvicorn main:app`. Set DATABASE_URL and REDIS_URL to the URLs of role app.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps
from typing import Annotated, ParamSpec, TypeVar

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from groundwork_client import AsyncDataAccess, errors
from groundwork_client.models import NewActivity, NewUser, User
from pydantic import AwareDatetime, BaseModel, ConfigDict

P = ParamSpec("P")
T = TypeVar("T")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncDataAccess.open() as data:
        app.state.data = data
        yield


app = FastAPI(lifespan=lifespan)


def get_data(request: Request) -> AsyncDataAccess:
    data: AsyncDataAccess = request.app.state.data
    return data


Data = Annotated[AsyncDataAccess, Depends(get_data)]


def transactional(endpoint: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Run an endpoint in one transaction. An exception that leaves the endpoint, also an HTTPException, rolls it back.

    The commit happens before the response is sent, so that a client never sees success for a write that failed.
    """

    @wraps(endpoint)
    async def covered(*args: P.args, **kwargs: P.kwargs) -> T:
        async with app.state.data.transaction():
            return await endpoint(*args, **kwargs)

    return covered


@app.exception_handler(errors.NotFound)
async def not_found(request: Request, error: errors.NotFound) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=404)


@app.exception_handler(errors.InvalidInput)
async def invalid_input(request: Request, error: errors.InvalidInput) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=422)


@app.exception_handler(errors.Unavailable)
async def unavailable(request: Request, error: errors.Unavailable) -> JSONResponse:
    return JSONResponse({"detail": "try again later"}, status_code=503)


class Sign(BaseModel):
    github_id: int
    username: str


class SignedUp(BaseModel):
    """The fields of a user that clients see. FastAPI reads them from the record, and documents them in OpenAPI."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    username: str
    created_at: AwareDatetime


@app.get("/users/{user_id}", response_model=SignedUp)
async def read_user(user_id: int, data: Data) -> User:
    return await data.users.get(user_id)


@app.post("/users", response_model=SignedUp, status_code=201)
@transactional
async def sign_up(new: Sign, data: Data) -> User:
    """Add a user and its first activity. Both are stored, or neither."""
    user = await data.users.add(NewUser(github_id=new.github_id, username=new.username))
    if new.username.startswith("-"):
        raise HTTPException(422, "a username must not start with a hyphen")
    await data.activities.add(NewActivity(user_id=user.id, type="SignUp", timestamp=user.created_at))
    return user
