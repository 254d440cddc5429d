"""Runs the migrations on the connection that `oversight.store.opening` hands over."""

from alembic import context

from oversight.store.migrations import VERSION_TABLE
from oversight.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
