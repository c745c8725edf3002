"""What Alembic runs for every upgrade: the versions, in the transaction that `migrate.upgrade` began."""

from alembic import context

from plaudit.feedback.store.tables import metadata

connection = context.config.attributes["connection"]
# SQLite can change a table only by building it anew, which Alembic calls a batch.
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True, compare_type=True)
context.run_migrations()
