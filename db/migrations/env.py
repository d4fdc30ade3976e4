"""Alembic's environment: runs on the connection that `paretofit.db.migrate` hands over, in one transaction."""

from alembic import context

from paretofit.db.tables import Base

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, transactional_ddl=True
)
with context.begin_transaction():
    context.run_migrations()
