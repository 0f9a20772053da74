"""Our models inside other people's frameworks; each needs a package that b2inst itself does not."""
