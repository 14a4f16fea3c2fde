"""Programs: what circuits compile to. A plan of nodes, layers made from them, and three passes over the layers."""
