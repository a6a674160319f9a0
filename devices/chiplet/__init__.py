"""Analytic costs of network layers on accelerator chiplets, and of the package that joins them."""
