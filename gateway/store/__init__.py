"""The database: its tables, and every statement on them, each verb one short transaction."""
