"""Published settings as problems: what each mapper's device set, costs and graph are; the figures stand beside them."""
