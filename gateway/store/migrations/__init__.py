"""The steps of the schema, one file each, which are never changed once released."""
