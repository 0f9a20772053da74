"""The explorer: what is behind a mask, and what becomes of it when the parts are moved."""
