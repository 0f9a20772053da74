"""The explorer: how masks are composed of bases, and how they change with them."""
