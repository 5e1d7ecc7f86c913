"""The table of users as a model of SQLAlchemy."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects.postgresql import JSONB

from infra.spec import roles


class _Base(orm.DeclarativeBase):
    pass


class OrmUser(_Base):
    """The same columns as an SQLAlchemy model."""

    __tablename__ = "users"
    __table_args__ = {"schema": roles.SCHEMA}  # noqa: RUF012
    id: orm.Mapped[int] = orm.mapped_column(sa.BigInteger, primary_key=True)
    github_id: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
    username: orm.Mapped[str]
    email: orm.Mapped[str | None]
    preferences: orm.Mapped[dict[str, Any]] = orm.mapped_column(JSONB)
    created_at: orm.Mapped[datetime] = orm.mapped_column(sa.DateTime(timezone=True))
    updated_at: orm.Mapped[datetime] = orm.mapped_column(sa.DateTime(timezone=True))
    row_version: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
