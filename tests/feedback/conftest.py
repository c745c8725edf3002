from databases import database, fast_passwords, postgresql_cluster, project, schema_templates, sqlite_database

__all__ = ["database", "fast_passwords", "postgresql_cluster", "project", "schema_templates", "sqlite_database"]
