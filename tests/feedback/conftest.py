from databases import database, postgresql_cluster, schema_templates, sqlite_database

__all__ = ["database", "postgresql_cluster", "schema_templates", "sqlite_database"]
