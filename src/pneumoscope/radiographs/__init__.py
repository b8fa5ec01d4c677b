"""Bytes, path or address -> Radiograph."""
