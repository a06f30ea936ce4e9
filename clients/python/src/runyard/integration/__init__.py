"""Ties runs to the libraries that train, and to what they write anyway; each module is loaded when it is asked for."""
