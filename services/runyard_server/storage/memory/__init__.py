"""The reference of every port: dictionaries and lists; the model that the other adapters are compared with."""
