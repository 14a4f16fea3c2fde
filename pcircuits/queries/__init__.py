"""Queries: one short file each, and the models that answer them."""
