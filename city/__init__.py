"""The town: an application made of modules. Pure."""
