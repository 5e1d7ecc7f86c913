"""An HTTP API for users with Flask and gunicorn.

`gunicorn --preload` imports this module, which opens the data access, before it forks its workers. Each worker gets its
own connections and threads at its first call. Run it with `gunicorn --preload --workers 2 main:app`.
"""

from __future__ import annotations

import atexit

from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue
from groundwork_client import DataAccess, errors
from groundwork_client.models import NewUser, User

app = Flask(__name__)
data = DataAccess.open().connect()
atexit.register(data.close)


@app.errorhandler(errors.NotFound)
def not_found(error: errors.NotFound) -> ResponseReturnValue:
    return jsonify(detail=str(error)), 404


@app.errorhandler(errors.Unavailable)
def unavailable(error: errors.Unavailable) -> ResponseReturnValue:
    return jsonify(detail="try again later"), 503


@app.errorhandler(errors.InvalidInput)
def invalid_input(error: errors.InvalidInput) -> ResponseReturnValue:
    return jsonify(detail=str(error)), 422


@app.get("/users/<int:user_id>")
def read_user(user_id: int) -> ResponseReturnValue:
    return jsonify(_visible(data.users.get(user_id)))


@app.post("/users")
def sign_up() -> ResponseReturnValue:
    body = request.get_json()
    with data.transaction():
        user = data.users.add(NewUser(github_id=body["github_id"], username=body["username"]))
    return jsonify(_visible(user)), 201


def _visible(user: User) -> dict[str, object]:
    return {"id": user.id, "username": user.username}
