"""The steps of a program: one file for each kind, each with three short methods: up, down and choose."""
